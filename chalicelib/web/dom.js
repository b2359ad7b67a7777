// What every page is made of: elements, words, times, and waiting.
// It must not know any route of the service.

/** Make an element: h("button", {type: "button", onclick: f}, "Text", child). */
export function h(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (key === "value") element.value = value;
    else element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** Replace what is in an element, and leave it alone where nothing differs; the focus stays where it was. */
export function fill(element, ...children) {
  const made = h("div", {}, ...children);
  if (element.innerHTML === made.innerHTML && !made.querySelector("button, input, select, a")) return element;
  const was = element.contains(document.activeElement) ? document.activeElement : null;
  element.replaceChildren(...made.childNodes);
  if (was && !was.isConnected) focusLike(element, was);
  return element;
}

/** Focus what is called as the element that had the focus, or else the part that it was in. */
function focusLike(place, was) {
  const called = (element) => [element.tagName, element.name, element.getAttribute("aria-label") ?? element.textContent].join();
  const same = [...place.querySelectorAll(was.tagName)].find((one) => called(one) === called(was));
  if (!same) place.tabIndex = -1;
  (same ?? place).focus({ preventScroll: true });
}

let texts = {};
export let language = "en";
export let locale = "en"; // of times: British people read them otherwise than American ones

/** Load the words of the language that the browser asks for: English, unless it is German. */
export async function loadTexts() {
  language = navigator.language.toLowerCase().startsWith("de") ? "de" : "en";
  locale = navigator.language.toLowerCase().startsWith(language) ? navigator.language : language;
  texts = (await import(`./texts.${language}.js`)).default;
  document.documentElement.lang = language;
}

/** Load the words that a part alone has. */
export async function loadTextsOf(part) {
  const more = await import(`./texts.${part}.${language}.js`);
  texts = { ...texts, ...more.default };
  patterns.clear();
}

/** Say something in the person's language; {names} in it are filled in. */
export function t(key, values = {}) {
  const text = texts[key];
  if (text === undefined) throw new Error(`no text: ${key}`);
  return text.replace(/\{(\w+)\}/g, (_, name) => values[name]);
}

/** Tell whether there are words for this, such as a state or a reason of the service. */
export function hasText(key) {
  return texts[key] !== undefined;
}

const patterns = new Map();
/** Find the texts of a kind that have a {0} in them, each with what recognises it; the longest first. */
function patternsOf(kind) {
  if (!patterns.has(kind)) {
    const keys = Object.keys(texts).filter((key) => key.startsWith(`${kind}.`) && key.includes("{0}"));
    keys.sort((one, other) => other.length - one.length);
    patterns.set(
      kind,
      keys.map((key) => {
        const parts = key.slice(kind.length + 1).split(/\{\d\}/);
        const plain = parts.map((part) => part.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"));
        return [new RegExp(`^${plain.join("(.+?)")}$`, "s"), key];
      }),
    );
  }
  return patterns.get(kind);
}

/** Say what the service says in English: word by word, or by a text in which {0} and {1} stand for something;
 *  as it came if there are no words for it. */
export function said(kind, value) {
  const key = `${kind}.${value}`;
  if (hasText(key)) return t(key);
  for (const [pattern, found] of patternsOf(kind)) {
    const told = pattern.exec(value)?.slice(1);
    if (told) return t(found, told);
  }
  return value;
}

const times = new Map();
/** Write a time of the service as the person's clock shows it. */
export function moment(text, options = { dateStyle: "medium", timeStyle: "short" }) {
  if (!text) return "–";
  const key = JSON.stringify(options);
  if (!times.has(key)) times.set(key, new Intl.DateTimeFormat(locale, options));
  const date = new Date(text);
  return h("time", { datetime: text }, times.get(key).format(date));
}

/** Write a state by word and shape; the shape is the style's. */
export function stateOf(state) {
  return h("span", { class: "state", "data-state": state }, said("state", state));
}

/** Write 12 digits in groups; whoever hears the page gets them group by group, digit by digit. */
export function codeOf(digits) {
  const groups = digits.match(/\d{4}/g);
  return h(
    "span",
    { class: "code" },
    h("span", { "aria-hidden": "true" }, groups.map((group) => h("span", {}, group))),
    h("span", { class: "unseen" }, groups.map((group) => group.split("").join(" ")).join(", ")),
  );
}

/** Write a hardware id as it is printed on a phone; of an analogue phone its gateway's, and the interface. */
export function hwIdOf(hwId) {
  const [mac, at] = hwId.split("-");
  const printed = mac.match(/../g).join("-");
  return at ? `${printed} ${at}` : printed;
}

/** Ask whether something is meant; resolves to true or false. */
export function ask(title, text, yes, { isDangerous = false } = {}) {
  return new Promise((resolve) => {
    const dialog = h(
      "dialog",
      { "aria-labelledby": "asked", onclose: () => (dialog.remove(), resolve(dialog.returnValue === "yes")) },
      h(
        "form",
        { method: "dialog" },
        h("h2", { id: "asked" }, title),
        h("p", {}, text),
        h(
          "p",
          { class: "actions" },
          h("button", { value: "no" }, t("cancel")),
          h("button", { value: "yes", class: isDangerous ? "dangerous" : "primary" }, yes),
        ),
      ),
    );
    document.body.append(dialog);
    dialog.showModal();
  });
}

const announcer = h("p", { class: "unseen", role: "status" });
/** Let whoever hears the page know what has just happened. */
export function announce(text) {
  if (!announcer.isConnected) document.body.append(announcer);
  announcer.textContent = text;
}

const LONG_MS = 300;
/** Make what stands where something is still to come; where that takes longer than a moment, it says so. */
export function loading() {
  const place = h("p", { class: "quiet" });
  setTimeout(() => {
    if (!place.isConnected) return;
    place.textContent = t("loading");
    announce(t("loading"));
  }, LONG_MS);
  return place;
}

let carried = null;
/** Say on the page that one goes to what was done on this one. */
export function carry(text) {
  carried = text;
}

/** Tell what was done on the page before, once; null for nothing. */
export function carriedOver() {
  const text = carried;
  carried = null;
  return text;
}

/** Do something once, however often it is asked for meanwhile: its button is busy until it ends. */
export async function once(button, work) {
  if (button.getAttribute("aria-busy") === "true") return undefined;
  button.setAttribute("aria-busy", "true");
  button.setAttribute("aria-disabled", "true");
  try {
    return await work();
  } finally {
    button.removeAttribute("aria-busy");
    button.removeAttribute("aria-disabled");
  }
}

/** Say what went wrong in words that a person can act on; the service's own are better than none. */
export function worded(error) {
  const refused = said("refused", error.message);
  if (refused !== error.message) return refused;
  const key = `problem.${error.type}`;
  return hasText(key) ? t(key, { seconds: error.retryAfterSeconds ?? 5 }) : error.message;
}

/** Show what the service refused, at the fields that it names, and everything else above them. */
export function showProblem(place, error, form = null) {
  const left = [];
  for (const fault of error.faults ?? []) {
    const field = form?.elements.namedItem(fault.field);
    if (field instanceof HTMLElement) {
      field.setCustomValidity(said("fault", fault.message));
      field.addEventListener("input", () => field.setCustomValidity(""), { once: true });
    } else {
      const words = said("fault", fault.message);
      left.push(fault.field ? `${fault.field}: ${words}` : words);
    }
  }
  if (form && !form.checkValidity()) form.reportValidity();
  place.replaceChildren(
    h("div", { class: "problem", role: "alert" }, h("p", {}, worded(error)), left.map((text) => h("p", {}, text))),
  );
}
