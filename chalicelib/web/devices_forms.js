// What the parts of Devices are made of: fields and what is wrong with them, lists page by page, doing a thing once.
// It must not know a route of the service.

import { announce, fill, h, once, said, showProblem, t, worded } from "./dom.js";
import { Problem, call, events, newKey } from "./client.js";
import { Paging } from "./paging.js";

const UNANSWERED = 500;
let drawn = 0;

/** Label a control, with room for a hint and for what is wrong with it. */
export function field(name, label, control, hint = null) {
  drawn += 1;
  const id = `field-${drawn}`;
  control.id = id;
  if (hint) control.setAttribute("aria-describedby", `${id}-hint`);
  return h(
    "div",
    { class: "field", "data-field": name },
    h("label", { for: id }, h("span", {}, label)),
    control,
    hint && h("small", { id: `${id}-hint` }, hint),
  );
}

/** Label a box that is ticked or not. */
export function tick(name, label, isOn, value = null) {
  const box = h("input", { type: "checkbox", name, value: value ?? "on", checked: isOn });
  return h("label", { class: "check" }, box, h("span", {}, label));
}

export function input(name, attributes = {}) {
  return h("input", { name, autocomplete: "off", spellcheck: "false", ...attributes });
}

/** Make a drop-down of [value, words]. */
export function choice(name, options, chosen = null, attributes = {}) {
  return h(
    "select",
    { name, ...attributes },
    options.map(([value, words]) => h("option", { value, selected: value === chosen }, words)),
  );
}

/** Make a form that is sent once, however often it is asked for; `work` gets its elements. */
export function form(attributes, children, words, work, { isDangerous = false } = {}) {
  const problems = h("div", {});
  const button = h("button", { class: isDangerous ? "dangerous" : "primary" }, words);
  const made = h(
    "form",
    {
      novalidate: true,
      ...attributes,
      onsubmit: (event) => (event.preventDefault(), act(button, problems, () => work(made, problems), made)),
    },
    children,
    h("p", { class: "actions" }, button),
    problems,
  );
  return made;
}

/** Make a button that does something once at a time. */
export function doing(words, problems, work, attributes = {}) {
  const button = h("button", { type: "button", ...attributes, onclick: () => act(button, problems, work) }, words);
  return button;
}

/** Do something once, and show what the service refuses at the fields that it names. */
export async function act(button, problems, work, of = null) {
  return once(button, async () => {
    problems.replaceChildren();
    of?.querySelectorAll("[data-field]").forEach(clear);
    await attempt(problems, work, of);
  });
}

/** Do something, and show what the service refuses. */
export async function attempt(problems, work, of = null) {
  try {
    await work();
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    showFaults(problems, error, of);
  }
}

/** Say that something is done, to those who see and to those who hear. */
export function done(place, text) {
  place.replaceChildren(h("p", { class: "done" }, text));
  announce(text);
}

/** Show what is wrong: at its field if the form has it, else above; the first such field gets the focus. */
export function showFaults(problems, error, of = null) {
  const left = [];
  let first = null;
  for (const { field: name, message } of error.faults) {
    const [place, rest] = placeOf(of, name);
    const words = said("fault", message);
    if (place) {
      mark(place, rest ? `${/^\d+$/.test(rest) ? t("devices.line", { line: Number(rest) + 1 }) : rest}: ${words}` : words);
      first ??= place;
    } else {
      left.push({ field: name, message: words });
    }
  }
  showProblem(problems, { message: refusal(error), faults: left });
  if (first) controlOf(first)?.focus();
}

/** Say in words what the service refused, with what is in the way. */
function refusal(error) {
  const uses = Object.entries(error.usedBy ?? {}).filter(([, count]) => count > 0);
  if (uses.length > 0) {
    const told = uses.map(([kind, count]) => `${said("kind", kind)}: ${count}`).join(", ");
    return t("devices.in-use", { used: told });
  }
  return worded(error);
}

/** Find the field that a fault names, and what of the name goes further than it. */
function placeOf(of, name) {
  if (!of) return [null, ""];
  const parts = name.split(".");
  for (let known = parts.length; known > 0; known -= 1) {
    const place = of.querySelector(`[data-field="${CSS.escape(parts.slice(0, known).join("."))}"]`);
    if (place) return [place, parts.slice(known).join(".")];
  }
  return [of.querySelector('[data-field="*"]'), name];
}

function controlOf(place) {
  return place.querySelector("input, select, textarea");
}

/** Write what is wrong under a field, until somebody types there. */
export function mark(place, words) {
  const control = controlOf(place);
  let told = place.querySelector(".fault");
  if (!told) {
    told = h("p", { class: "fault", id: `${control.id}-fault` });
    place.append(told);
    control.setAttribute("aria-invalid", "true");
    control.setAttribute("aria-errormessage", told.id);
    place.addEventListener("input", () => clear(place), { once: true });
  }
  told.append(h("span", {}, words));
}

/** Write what is wrong under a field before it is sent, and go there. */
export function refuse(place, words) {
  mark(place, words);
  controlOf(place).focus();
}

/** Read a hardware id as somebody types it, in any spelling; null if it is none. */
export function hwIdIn(text) {
  const hwId = text.toLowerCase().replace(/[\s:.-]/g, "");
  return /^[0-9a-f]{12}$/.test(hwId) ? hwId : null;
}

function clear(place) {
  place.querySelector(".fault")?.remove();
  const control = controlOf(place);
  control?.removeAttribute("aria-invalid");
  control?.removeAttribute("aria-errormessage");
}

const unanswered = new Map();
/** Make something; if no answer came, sending the same again does not make another. */
export async function make(path, body, method = "POST") {
  const sent = JSON.stringify([path, body]);
  const key = unanswered.get(sent) ?? newKey();
  unanswered.set(sent, key);
  try {
    const answer = await call(method, path, { body, key });
    unanswered.delete(sent);
    return answer;
  } catch (error) {
    if (error.status && error.status < UNANSWERED) unanswered.delete(sent);
    throw error;
  }
}

/** Read again what may have changed while there was no connection; returns what ends it. */
export function whenBack(work) {
  let isLost = false;
  const lost = () => (isLost = true);
  const back = () => {
    if (isLost) work();
    isLost = false;
  };
  events.addEventListener("disconnected", lost);
  events.addEventListener("connected", back);
  return () => {
    events.removeEventListener("disconnected", lost);
    events.removeEventListener("connected", back);
  };
}

/** Hear of phones as they change, as far as this person is told of them; returns what ends it. */
export function whenHeard(work) {
  const heard = ({ detail: { phone, entries = [] } }) => [phone, ...entries.map(({ device }) => device)].filter(Boolean).forEach(work);
  events.addEventListener("heard", heard);
  return () => events.removeEventListener("heard", heard);
}

/** Show a text to copy: on a button, and for those who select it themselves. */
export function copied(label, text) {
  const button = h("button", { type: "button", "aria-label": t("devices.copy-it", { name: label }) }, t("copy"));
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(text);
    button.textContent = t("copied");
    announce(t("copied"));
  });
  return h(
    "div",
    { class: "copied" },
    h("h4", {}, label),
    h("pre", { tabindex: "0", role: "group", "aria-label": label }, text),
    button,
  );
}

/** A list of the service, one page of it at a time. */
export class Listing {
  #place;
  #of;
  #problems = h("div", {});
  #paging = new Paging(() => this.#turn());

  /** `of`: label, columns ([words, cell of an item]; the first is the row's head), read(cursor), empty (words). */
  constructor(place, of) {
    this.#place = place;
    this.#of = of;
  }

  /** Read from the beginning. */
  async begin() {
    this.#paging.restart();
    await this.read();
  }

  /** Read the page that shows again. */
  async read() {
    this.#draw(await this.#of.read(this.#paging.cursor));
  }

  #draw({ items, next }) {
    const { label, columns, empty } = this.#of;
    const isEmpty = items.length === 0 && this.#paging.isFirst;
    const table = h(
      "table",
      { "aria-label": label },
      h("thead", {}, h("tr", {}, columns.map(([words]) => h("th", { scope: "col" }, words)))),
      h("tbody", {}, items.map((item) => row(columns, item))),
    );
    fill(this.#place, isEmpty ? h("p", {}, empty) : table, this.#paging.buttons(next), this.#problems);
  }

  async #turn() {
    this.#problems.replaceChildren();
    try {
      await this.read();
      return true;
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      showFaults(this.#problems, error);
      return false;
    }
  }
}

function row(columns, item) {
  const [[, head], ...others] = columns;
  return h(
    "tr",
    {},
    h("th", { scope: "row" }, head(item)),
    others.map(([words, cell]) => h("td", { "data-label": words }, cell(item))),
  );
}
