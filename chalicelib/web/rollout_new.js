// A new rollout, in the four steps of the concept: connection, category and app, users, codes.
// It must not show a code: the board hands them out.

import { announce, fill, h, locale, once, showProblem, t } from "./dom.js";
import { Problem, call, configuration, events, isConnected, newKey } from "./client.js";
import { patiently } from "./patience.js";
import { UserPicker, userImport } from "./users.js";

const STEPS = ["connection", "category", "users", "codes"];
const DRAFT = "rollout-draft";
const ADDING = "rollout-adding";
const USERS_A_CALL = 200;
const MAX_USERS = 20_000;
const CAME_BACK_MS = 1000;

/** Show the steps, or how the users who are left are added; returns what ends it. */
export async function show(place, { me }) {
  const left = waiting(me);
  if (!left) {
    const steps = new Steps(me, place);
    await steps.begin();
    return () => steps.end();
  }
  const adding = new Adding(me, left);
  place.append(h("h1", {}, t("rollouts.new")), adding.element);
  adding.run();
  return () => adding.end();
}

/** Tell of the rollout to which this person was adding users in this tab; null if there is none. */
export function waiting(me) {
  return kept(ADDING, me);
}

function kept(name, me) {
  const found = JSON.parse(sessionStorage.getItem(name) ?? "null");
  return found?.who === whoIs(me) ? found : null;
}

function keep(name, me, what) {
  try {
    sessionStorage.setItem(name, JSON.stringify({ ...what, who: whoIs(me) }));
  } catch {
    // no room: it goes on, but a reload would forget it
    sessionStorage.removeItem(name);
  }
}

function whoIs(me) {
  return `${me.sip}@${me.domain}`;
}

/** Each step is an entry of the history, so that Back leads to the one before: the entry of a step has as many
 *  before it as there are steps before it. */
class Steps {
  #me;
  #step = 0;
  #where = location.hash;
  #hasDraft;
  #options = null;
  #tried = null; // the key of what was sent last, and what that was: sent again, it is the same rollout
  #adding = null;
  #problems = h("div", {});
  #list = h("ol", { class: "steps", "aria-label": t("rollouts.steps") });
  #sections;
  #service = h("p", {});
  #socket = h("p", {});
  #choice = h("div", { class: "row" });
  #form;
  #picker = new UserPicker(() => this.#counted());
  #tooMany = h("p", { class: "warning", role: "status" });
  #import;
  #overview = h("div", {});
  #back = h("button", { type: "button", onclick: () => history.back() }, t("rollouts.back"));
  #next = h("button", { type: "button", class: "primary", onclick: () => this.#forward() }, t("rollouts.next"));
  #bar;
  #heard = () => {
    this.#sayConnection();
    // what could not be read without a connection, or signed out
    if (isConnected() && this.#step === 2 && this.#picker.isUnread) this.#show(2);
  };
  #popped = ({ state }) => {
    if (location.hash === this.#where && !this.#adding) this.#come(state?.step ?? 0);
  };
  #leaving = () => this.#keep();

  constructor(me, place) {
    this.#me = me;
    const known = kept(DRAFT, me);
    const draft = known ?? {};
    this.#hasDraft = known !== null;
    this.#tried = draft.tried ?? null;
    this.#form = this.#makeForm(draft);
    this.#picker.selected = new Set(draft.users ?? []);
    this.#import = h("details", {}, h("summary", {}, t("users.import")), userImport(() => this.#picker.read()));
    this.#sections = [
      [this.#service, this.#socket, h("p", { class: "actions" }, this.#checkButton())],
      [this.#form],
      [this.#import, this.#tooMany, this.#picker.element()],
      [this.#overview],
    ].map((content, at) => h("section", { "aria-labelledby": `step-${at}`, hidden: at !== 0 }, h("h2", { id: `step-${at}`, tabindex: "-1" }, t(`rollouts.step-${STEPS[at]}`)), content));
    this.#bar = h("p", { class: "actions bar" }, this.#back, this.#next);
    place.append(h("h1", {}, t("rollouts.new")), this.#list, this.#problems, ...this.#sections, this.#bar);
  }

  async begin() {
    events.addEventListener("connected", this.#heard);
    events.addEventListener("disconnected", this.#heard);
    globalThis.addEventListener("pagehide", this.#leaving);
    globalThis.addEventListener("popstate", this.#popped);
    this.#draw();
    await this.#check();
    // after a reload, one is where one was, if what was typed is there
    const { step = 0 } = history.state ?? {};
    if (step > 0 && this.#hasDraft) await this.#come(step);
    else if (step > 0) history.go(-step);
  }

  end() {
    events.removeEventListener("connected", this.#heard);
    events.removeEventListener("disconnected", this.#heard);
    globalThis.removeEventListener("pagehide", this.#leaving);
    globalThis.removeEventListener("popstate", this.#popped);
    this.#picker.end();
    this.#adding?.end();
    this.#keep();
  }

  /** Keep what was typed and chosen, for a reload, or for signing in again. */
  #keep() {
    if (this.#adding) return;
    const { name, note } = this.#form.elements;
    const draft = { name: name.value, note: note.value, tried: this.#tried, users: [...this.#picker.selected] };
    keep(DRAFT, this.#me, { ...draft, category: this.#chosen("category"), app: this.#chosen("app") });
  }

  #chosen(name) {
    return this.#form.elements.namedItem(name)?.value ?? null;
  }

  // 1: connection

  #checkButton() {
    const button = h("button", { type: "button", onclick: () => once(button, () => this.#check()) }, t("rollouts.check"));
    return button;
  }

  async #check() {
    this.#problems.replaceChildren();
    this.#options = null;
    fill(this.#service, t("rollouts.checking"));
    try {
      const [options, { websocket_url: url }] = await Promise.all([call("GET", "/rollouts/options"), configuration()]);
      this.#options = options;
      fill(this.#service, h("span", { class: "state", "data-state": "current" }, t("rollouts.service-answers")));
      this.#socket.hidden = !url;
      this.#drawChoice();
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      fill(this.#service, h("span", { class: "state", "data-state": "stuck" }, t("rollouts.service-fails")));
      showProblem(this.#problems, error);
    }
    this.#sayConnection();
    this.#draw();
  }

  #sayConnection() {
    const [state, text] = isConnected() ? ["current", "rollouts.is-live"] : ["stuck", "rollouts.is-not-live"];
    fill(this.#socket, h("span", { class: "state", "data-state": state }, t(text)));
  }

  // 2: category and app

  #makeForm(draft) {
    const date = new Intl.DateTimeFormat(locale, { dateStyle: "medium" }).format(new Date());
    this.#choice.dataset.category = draft.category ?? "";
    this.#choice.dataset.app = draft.app ?? "";
    return h(
      "form",
      { class: "fields", onsubmit: (event) => (event.preventDefault(), this.#forward()) },
      this.#choice,
      h("label", {}, h("span", {}, t("rollouts.name")), h("input", { name: "name", required: true, maxlength: 200, value: draft.name ?? t("rollouts.default-name", { date }) })),
      h("label", {}, h("span", {}, t("rollouts.note")), h("textarea", { name: "note", rows: 3, maxlength: 1000, value: draft.note ?? "" })),
    );
  }

  #drawChoice() {
    const { categories, phone_apps: apps } = this.#options;
    const was = { category: this.#chosen("category") ?? this.#choice.dataset.category, app: this.#chosen("app") ?? this.#choice.dataset.app };
    fill(this.#choice, choiceOf("category", categories, was.category), apps.length > 0 && choiceOf("app", apps, was.app));
    this.#form.hidden = categories.length === 0;
    const [, section] = this.#sections;
    section.querySelector(".empty")?.remove();
    if (categories.length > 0) return;
    const mayMake = this.#me.roles.includes("devices-admin");
    section.append(h("p", { class: "empty card" }, t(mayMake ? "rollouts.no-category" : "rollouts.no-category-ask")));
  }

  // 3: users

  #counted() {
    const count = this.#picker.selected.size;
    this.#tooMany.textContent = count > MAX_USERS ? t("rollouts.too-many", { max: MAX_USERS }) : "";
    this.#draw();
  }

  // 4: codes

  #drawOverview() {
    const { name } = this.#form.elements;
    const count = this.#picker.selected.size;
    const start = h("button", { type: "button", class: "primary", onclick: () => once(start, () => this.#start()) }, t("rollouts.issue", { count }));
    fill(
      this.#overview,
      h(
        "dl",
        {},
        [
          [t("rollouts.name"), name.value],
          [t("rollouts.category"), this.#chosen("category")],
          [t("rollouts.app"), this.#chosen("app")],
          [t("rollouts.users"), String(count)],
        ].flatMap(([term, value]) => value && [h("dt", {}, term), h("dd", {}, value)]),
      ),
      h("p", {}, t("rollouts.seven-days")),
      h("p", { class: "actions" }, start),
    );
  }

  async #start() {
    this.#problems.replaceChildren();
    const { name, note } = this.#form.elements;
    const body = { name: name.value.trim(), note: note.value.trim(), category: this.#chosen("category"), app: this.#chosen("app") ?? "" };
    const text = JSON.stringify(body);
    if (this.#tried?.text !== text) this.#tried = { text, key: newKey() };
    const users = [...this.#picker.selected];
    try {
      const rollout = await patiently(() => call("POST", "/rollouts", { body, key: this.#tried.key }));
      const made = { rollout_id: rollout.rollout_id, name: rollout.name, left: users, total: users.length, added: 0, already: 0, gone: 0, key: newKey() };
      keep(ADDING, this.#me, made);
      sessionStorage.removeItem(DRAFT);
      this.#adding = new Adding(this.#me, made);
      this.#bar.hidden = true;
      fill(this.#overview, this.#adding.element);
      await this.#goBack(0); // the steps are over: Back leads to what was before them
      this.#adding.run();
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      const isOfForm = error.faults.some(({ field }) => this.#form.elements.namedItem(field));
      if (isOfForm) await this.#goBack(1);
      showProblem(this.#problems, error, isOfForm ? this.#form : null);
    }
  }

  // from step to step

  async #forward() {
    if (this.#step === 1 && !this.#form.reportValidity()) return;
    if (this.#step === STEPS.length - 1 || this.#next.disabled) return;
    history.pushState({ step: this.#step + 1 }, "");
    await this.#show(this.#step + 1);
  }

  /** Tell whether one may go on from a step. */
  #isReady(step) {
    const count = this.#picker.selected.size;
    return [this.#options !== null, this.#options?.categories.length > 0, count > 0 && count <= MAX_USERS, true][step];
  }

  /** Show the step of the entry to which one has come, or go back to the first that is not done. */
  async #come(step) {
    const open = STEPS.findIndex((_, at) => !this.#isReady(at) || (at === 1 && !this.#form.checkValidity()));
    if (step > this.#step && open >= 0 && open < step) history.go(open - step);
    else await this.#show(step);
  }

  /** Go back to the entry of a step, which shows by itself. */
  #goBack(step) {
    history.go(step - this.#step);
    return new Promise((resolve) => {
      globalThis.addEventListener("popstate", resolve, { once: true });
      setTimeout(resolve, CAME_BACK_MS);
    });
  }

  async #show(step) {
    this.#problems.replaceChildren();
    this.#step = step;
    this.#draw();
    this.#sections[step].querySelector("h2").focus();
    if (step === 2) await this.#readUsers();
    if (step === 3) this.#drawOverview();
  }

  async #readUsers() {
    try {
      await this.#picker.read();
      if (this.#picker.isEmpty) this.#import.open = true;
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      showProblem(this.#problems, error);
    }
  }

  #draw() {
    fill(
      this.#list,
      STEPS.map((name, at) => h("li", { "aria-current": at === this.#step ? "step" : null, class: at < this.#step ? "passed" : null }, t(`rollouts.step-${name}`))),
    );
    this.#sections.forEach((section, at) => (section.hidden = at !== this.#step));
    this.#back.hidden = this.#step === 0;
    this.#next.hidden = this.#step === STEPS.length - 1;
    this.#next.disabled = !this.#isReady(this.#step);
  }
}

/** Make a drop-down where there is something to choose, and plain text where there is not. */
function choiceOf(name, options, was) {
  const label = t(`rollouts.${name}`);
  if (options.length === 1) {
    const only = h("input", { type: "hidden", name, value: options[0] });
    return h("p", { class: "only" }, h("strong", {}, label), h("span", {}, options[0]), only);
  }
  const selected = options.includes(was) ? was : options[0];
  return h("label", {}, h("span", {}, label), h("select", { name }, options.map((value) => h("option", { value, selected: value === selected }, value))));
}

/** Users who are added to a rollout, some at a time; it goes on after whatever ended it. */
class Adding {
  #me;
  #state;
  #isOver = false;
  #isRunning = false;
  #problems = h("div", {});
  #progress = h("progress", { "aria-label": t("rollouts.adding") });
  #told = h("p", { class: "sum" });
  #wait = h("p", { class: "sum", role: "status" });
  #goOn = h("button", { type: "button", class: "primary", hidden: true, onclick: () => this.run() }, t("rollouts.go-on"));
  #stop = h("button", { type: "button", hidden: true, onclick: () => this.#finish() }, t("rollouts.stop"));
  #connected = () => this.run();
  element = h("div", { class: "card" }, h("p", {}, t("rollouts.adding-how")), this.#progress, this.#told, this.#wait, this.#problems, h("p", { class: "actions" }, this.#goOn, this.#stop));

  constructor(me, state) {
    this.#me = me;
    this.#state = state;
    events.addEventListener("connected", this.#connected);
    this.#draw();
  }

  end() {
    this.#isOver = true;
    events.removeEventListener("connected", this.#connected);
  }

  async run() {
    if (this.#isRunning || this.#isOver) return;
    this.#isRunning = true;
    this.#show(null);
    try {
      while (this.#state.left.length > 0 && !this.#isOver) await this.#addSome();
      if (!this.#isOver) this.#finish();
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      if (!this.#isOver) this.#show(error);
    } finally {
      this.#isRunning = false;
    }
  }

  async #addSome() {
    const { rollout_id: id, left, key } = this.#state;
    const users = left.slice(0, USERS_A_CALL);
    const add = () => call("POST", `/rollouts/${id}/entries`, { body: { users }, key });
    const wait = (seconds) => (this.#wait.textContent = seconds === null ? "" : t("rollouts.wait", { seconds }));
    try {
      const { added, already } = await patiently(add, wait, () => this.#isOver);
      this.#goneOn(left.slice(users.length), { added, already });
    } catch (error) {
      const gone = new Set(goneOf(error).map((at) => users[at]));
      if (gone.size === 0) throw error;
      // who is no user any more must not keep the others from their codes
      this.#goneOn(left.filter((sip) => !gone.has(sip)), { gone: gone.size });
    }
  }

  #goneOn(left, { added = 0, already = 0, gone = 0 }) {
    const was = this.#state;
    this.#state = { ...was, left, added: was.added + added, already: was.already + already, gone: was.gone + gone, key: newKey() };
    // another page of this tab may have gone on since this one ended
    if (!this.#isOver || waiting(this.#me)?.key === was.key) keep(ADDING, this.#me, this.#state);
    this.#draw();
  }

  #finish() {
    const { rollout_id: id, added, already, gone } = this.#state;
    sessionStorage.removeItem(ADDING);
    announce(t("rollouts.added", { added, already, gone }));
    location.replace(`#/rollouts/${id}`);
  }

  #show(error) {
    this.#goOn.hidden = this.#stop.hidden = error === null;
    if (error === null) return this.#problems.replaceChildren();
    showProblem(this.#problems, error);
    this.#goOn.focus();
  }

  #draw() {
    const { name, left, total, added, already, gone } = this.#state;
    this.#progress.max = total;
    this.#progress.value = total - left.length;
    const parts = [t("rollouts.added-so-far", { name, done: total - left.length, total, added })];
    if (already) parts.push(t("rollouts.already", { already }));
    if (gone) parts.push(t("rollouts.gone", { gone }));
    this.#told.textContent = parts.join(" ");
  }
}

/** Tell which users of a call the service does not know, by their places. */
function goneOf(error) {
  return (error.faults ?? []).flatMap(({ field }) => /^users\.(\d+)$/.exec(field)?.[1] ?? []).map(Number);
}
