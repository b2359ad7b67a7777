// The board of a rollout: what has become of each user's code, live, and what can be done about it.
// It must not keep a code, nor show one but in what is handed out.

import { announce, ask, fill, h, hasText, hwIdOf, language, loading, moment, once, said, showProblem, stateOf, t } from "./dom.js";
import { Problem, call, events, newKey } from "./client.js";
import { Paging, newer } from "./paging.js";
import { pbxOf } from "./pbx_words.js";
import { patiently, pieces } from "./patience.js";
import { showSlips } from "./slips.js";

const PAGE = 50;
const USERS_A_CALL = 1000;
const SECOND_MS = 1000;
const COUNT_AGAIN_MS = 2 * SECOND_MS;
const STATES = ["pending", "registered", "expired", "revoked"];
const MAX_MISSED_TOLD = 10;
// a spreadsheet takes a file for UTF-8 by its mark, which reading it as text has taken off
const BYTE_ORDER_MARK = "\uFEFF";

/** Show the page; returns what ends it. */
export async function show(place, { rolloutId }) {
  const board = new Board(place, rolloutId);
  try {
    await board.read();
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    const problems = h("div", {});
    place.replaceChildren(back(), h("h1", {}, t("page.rollouts")), problems);
    return showProblem(problems, error);
  }
  return board.follow();
}

function back() {
  return h("p", {}, h("a", { href: "#/rollouts" }, t("board.back")));
}

class Board {
  #id;
  #rollout = null;
  #counts = null;
  #state = null; // the state that alone shows, null for all
  #rows = new Map(); // sip → its entry and elements
  #selected = new Set();
  #counting = null;
  #wantsCount = false;
  #isOver = false;
  #read = 0; // grows with each reading, so that a slow one does not come after a quick one
  #paging = new Paging(() => this.#tryToRead());
  #title = h("h1", {}, t("page.rollouts"));
  #facts = h("p", { class: "sum" });
  #problems = h("div", {});
  #sum = h("p", { class: "large" });
  #bar = h("div", { class: "bar-of-states", "aria-hidden": "true" }, STATES.map((state) => h("span", { "data-state": state })));
  #filters = h("div", { class: "row", role: "group", "aria-label": t("board.filter") });
  #actions = h("div", { class: "row" });
  #done = h("p", { class: "sum", role: "status" });
  #news = newer(() => this.#first());
  #onPage = h("input", { type: "checkbox", onchange: () => this.#selectPage() });
  #body = h("tbody", {});
  #listed = h("div", { class: "listed" }, loading());
  #delimiter;

  constructor(place, id) {
    this.#id = id;
    this.#makeActions();
    place.classList.add("wide");
    place.append(
      back(),
      this.#title,
      this.#facts,
      this.#problems,
      h("section", { "aria-labelledby": "board-sum" }, h("h2", { id: "board-sum" }, t("board.sum")), this.#sum, this.#bar, this.#filters),
      h("section", { "aria-labelledby": "board-handout" }, h("h2", { id: "board-handout" }, t("board.handout")), this.#handout()),
      h(
        "section",
        { "aria-labelledby": "board-list" },
        h("h2", { id: "board-list" }, t("board.list")),
        this.#actions,
        this.#done,
        h("div", { class: "above" }, h("label", { class: "check" }, this.#onPage, h("span", {}, t("users.select-page"))), this.#news.place),
        this.#listed,
      ),
    );
  }

  // reading

  async read() {
    this.#read += 1;
    const mine = this.#read;
    const page = await call("GET", this.#path(), { query: { limit: PAGE, state: this.#state, cursor: this.#paging.cursor } });
    if (mine !== this.#read) return;
    this.#problems.replaceChildren();
    this.#rollout = page;
    this.#counts = page.counts ?? this.#counts;
    if (this.#paging.isFirst) this.#news.say(null);
    this.#drawFacts();
    this.#drawRows(page.items, page.next);
    this.#drawCounts();
  }

  async #tryToRead() {
    try {
      await this.read();
      return true;
    } catch (error) {
      this.#fail(error);
      return false;
    }
  }

  async #first() {
    this.#paging.restart();
    if (await this.#tryToRead()) this.#listed.querySelector("input")?.focus();
  }

  #path(what = "") {
    return `/rollouts/${encodeURIComponent(this.#id)}${what}`;
  }

  #fail(error) {
    if (!(error instanceof Problem)) throw error;
    if (!this.#isOver) showProblem(this.#problems, error);
  }

  // what is heard, and the clock

  follow() {
    const heard = ({ detail }) => {
      if (detail.mt === "RegistrationChanged" && detail.rollout_id === this.#id) this.#changed(detail.entries);
    };
    const again = () => this.#readAgain();
    events.addEventListener("heard", heard);
    events.addEventListener("connected", again);
    const clock = setInterval(() => this.#tick(), SECOND_MS);
    return () => {
      this.#isOver = true;
      events.removeEventListener("heard", heard);
      events.removeEventListener("connected", again);
      clearInterval(clock);
      clearTimeout(this.#counting);
    };
  }

  /** After a time without a connection: the rows that show, in their places, and how many there are of each. */
  async #readAgain() {
    const page = await this.#tried(() => call("GET", this.#path(), { query: { limit: PAGE, state: this.#state, cursor: this.#paging.cursor } }));
    if (page) this.#changed(page.items);
  }

  async #tried(make) {
    try {
      return await make();
    } catch (error) {
      this.#fail(error);
      return null;
    }
  }

  #changed(entries) {
    const others = entries.filter((entry) => {
      const row = this.#rows.get(entry.sip);
      if (!row) return this.#state === null || this.#state === entry.state;
      if (entry.changed_at >= row.entry.changed_at) this.#update(row, entry);
      return false;
    });
    if (others.length > 0 && this.#rows.size === 0) this.#tryToRead();
    else if (others.length > 0) this.#news.say(t("board.newer"));
    this.#countAgain();
  }

  /** Count anew, soon, and not more often than every two seconds. */
  #countAgain() {
    this.#wantsCount = true;
    if (this.#counting !== null || this.#isOver) return;
    this.#counting = setTimeout(async () => {
      this.#wantsCount = false;
      const page = await this.#tried(() => call("GET", this.#path(), { query: { limit: 1 } }));
      if (page) {
        this.#counts = page.counts;
        this.#drawCounts(page.items[0]);
      }
      this.#counting = null;
      if (this.#wantsCount) this.#countAgain();
    }, COUNT_AGAIN_MS);
  }

  /** Let codes whose time is over look so. */
  #tick() {
    for (const row of this.#rows.values()) {
      if (stateAt(row.entry) === row.shown) continue;
      this.#update(row, row.entry);
      this.#countAgain();
    }
  }

  // how far it is

  #drawFacts() {
    const { name, category, app, note, created_at: made, ends_at: ends } = this.#rollout;
    this.#title.textContent = name;
    document.title = `${name} – Dialtone`;
    fill(
      this.#facts,
      [category, app].filter(Boolean).join(", "),
      " · ",
      t("rollouts.column-made"),
      " ",
      moment(made),
      " · ",
      t("rollouts.column-ends"),
      " ",
      moment(ends),
      note && [h("br"), note],
    );
  }

  #drawCounts(newest = null) {
    const total = STATES.reduce((sum, state) => sum + this.#counts[state], 0);
    const first = newest ?? (this.#paging.isFirst && this.#state === null ? this.#rows.values().next().value?.entry : null);
    const parts = [h("span", { class: "registered-of" }, t("board.registered-of", { registered: this.#counts.registered, total }))];
    if (first) parts.push(" ", h("small", {}, t("board.newest"), " ", moment(first.changed_at)));
    fill(this.#sum, parts);
    for (const part of this.#bar.children) {
      const count = this.#counts[part.dataset.state];
      part.style.flexGrow = count;
      part.hidden = count === 0;
    }
    this.#drawFilters(total);
  }

  #drawFilters(total) {
    if (!this.#filters.firstChild) {
      this.#filters.append(
        ...[null, ...STATES].map((state) =>
          h("button", { type: "button", "data-filter": state ?? "all", onclick: () => this.#filter(state) }, state ? stateOf(state) : t("board.all"), " ", h("strong", {})),
        ),
      );
    }
    for (const button of this.#filters.children) {
      const { filter } = button.dataset;
      button.setAttribute("aria-pressed", String(filter === (this.#state ?? "all")));
      button.querySelector("strong").textContent = filter === "all" ? total : this.#counts[filter];
    }
  }

  async #filter(state) {
    this.#state = state;
    this.#paging.restart();
    this.#drawFilters(STATES.reduce((sum, one) => sum + this.#counts[one], 0));
    if (await this.#tryToRead()) announce(t("board.shown", { count: this.#rows.size }));
  }

  // rows

  #drawRows(entries, next) {
    this.#rows = new Map(entries.map((entry) => [entry.sip, this.#row(entry)]));
    this.#body.replaceChildren(...[...this.#rows.values()].map(({ element }) => element));
    fill(
      this.#listed,
      entries.length === 0
        ? h("p", {}, t(this.#state ? "board.none-of-state" : "board.none"))
        : h(
            "table",
            { class: "board" },
            h("thead", {}, h("tr", {}, ["select", "user", "state", "time", "phone"].map((name) => h("th", { scope: "col" }, t(`board.column-${name}`))))),
            this.#body,
          ),
      this.#paging.buttons(next),
    );
    this.#saySelected();
  }

  #row(entry) {
    const name = entry.name || entry.sip;
    const box = h("input", {
      type: "checkbox",
      "aria-label": t("users.select", { name }),
      checked: this.#selected.has(entry.sip),
      onchange: () => this.#select(entry.sip, box.checked),
    });
    const cells = { state: h("td", {}), time: h("td", {}), phone: h("td", { class: "phone" }) };
    const element = h(
      "tr",
      { "data-sip": entry.sip },
      h("td", {}, box),
      h("th", { scope: "row" }, name, h("small", {}, entry.sip)),
      cells.state,
      cells.time,
      cells.phone,
    );
    const row = { entry, element, cells, box, shown: null };
    this.#update(row, entry);
    return row;
  }

  /** Write an entry into its row, without moving anything. */
  #update(row, entry) {
    row.entry = entry;
    row.shown = stateAt(entry);
    const { state, time, phone } = row.cells;
    fill(state, stateOf(row.shown));
    fill(time, h("small", {}, t(row.shown === "pending" ? "board.until" : "board.since")), moment(timeOf(entry, row.shown)));
    fill(phone, phoneOf(entry.device), entry.reason && remarkOf(entry), entry.device && pbxOf(entry.device.pbx));
  }

  #select(sip, isSelected) {
    if (isSelected) this.#selected.add(sip);
    else this.#selected.delete(sip);
    this.#saySelected();
  }

  #selectPage() {
    for (const [sip, { box }] of this.#rows) {
      box.checked = this.#onPage.checked;
      if (box.checked) this.#selected.add(sip);
      else this.#selected.delete(sip);
    }
    this.#saySelected();
  }

  #saySelected() {
    const count = [...this.#rows.keys()].filter((sip) => this.#selected.has(sip)).length;
    this.#onPage.checked = count > 0 && count === this.#rows.size;
    this.#onPage.indeterminate = count > 0 && count < this.#rows.size;
    this.#onPage.disabled = this.#rows.size === 0;
    for (const button of this.#actions.querySelectorAll("[data-change]")) {
      const { change } = button.dataset;
      button.textContent = this.#selected.size ? t(`board.${change}-selected`, { count: this.#selected.size }) : t(`board.${change}-all`);
    }
    this.#actions.lastChild.disabled = this.#selected.size === 0;
  }

  // changes

  #makeActions() {
    const make = (change) => {
      const button = h("button", { type: "button", "data-change": change, class: change === "revoke" ? "dangerous" : null, onclick: () => this.#change(button, change) }, t(`board.${change}-all`));
      return button;
    };
    const none = h("button", { type: "button", disabled: true, onclick: () => this.#clear() }, t("users.select-none"));
    fill(this.#actions, ["extend", "reissue", "revoke"].map(make), none);
  }

  #clear() {
    this.#selected.clear();
    for (const { box } of this.#rows.values()) box.checked = false;
    this.#saySelected();
    this.#onPage.focus();
  }

  async #change(button, change) {
    const users = [...this.#selected];
    const isSome = users.length > 0;
    const title = button.textContent;
    const whom = isSome ? t("board.whom-selected", { count: users.length }) : t(`board.whom-all-${change}`);
    if (!(await ask(title, `${whom} ${t(`board.${change}-means`)}`, t(`board.${change}`), { isDangerous: change !== "extend" }))) return;
    await once(button, async () => {
      const made = { changed: 0, missed: [] };
      this.#problems.replaceChildren();
      try {
        const bodies = isSome ? [...pieces(users, USERS_A_CALL)].map((some) => ({ users: some })) : [{}];
        for (const body of bodies) await this.#changeSome(change, body, made);
        if (isSome) this.#clear();
        this.#done.textContent = doneText(change, made);
      } catch (error) {
        this.#done.textContent = made.changed > 0 ? doneText(change, made) : "";
        this.#fail(error);
      }
      await this.#readAgain();
      button.focus();
    });
  }

  async #changeSome(change, body, made) {
    let cursor = null;
    do {
      const key = newKey();
      const sent = cursor ? { cursor } : body;
      const wait = (seconds) => (this.#done.textContent = seconds === null ? "" : t("rollouts.wait", { seconds }));
      const part = await patiently(() => call("POST", this.#path(`/${change}`), { body: sent, key }), wait, () => this.#isOver);
      made.changed += part.changed;
      made.missed.push(...part.missed);
      cursor = part.next;
      if (cursor) this.#done.textContent = t("board.so-far", { changed: made.changed });
    } while (cursor && !this.#isOver);
  }

  // what is handed out

  #handout() {
    const isGerman = language === "de";
    this.#delimiter = h(
      "select",
      { name: "delimiter" },
      ["comma", "semicolon"].map((name) => h("option", { value: name, selected: (name === "semicolon") === isGerman }, t(`board.${name}`))),
    );
    const csv = h("button", { type: "button", onclick: () => once(csv, () => this.#download()) }, t("board.csv"));
    const slips = h("button", { type: "button", onclick: () => once(slips, () => this.#slips()) }, t("board.slips"));
    return [h("p", {}, t("board.secret")), h("div", { class: "row" }, h("label", {}, h("span", {}, t("board.delimiter")), this.#delimiter), csv, slips)];
  }

  async #download() {
    const text = await this.#tried(() => patiently(() => call("GET", this.#path("/codes.csv"), { query: { delimiter: this.#delimiter.value } })));
    if (text === null) return;
    const url = URL.createObjectURL(new Blob([BYTE_ORDER_MARK, text], { type: "text/csv;charset=utf-8" }));
    h("a", { href: url, download: `${fileNameOf(this.#rollout.name)}.csv` }).click();
    // the browser reads it after this; then nobody can any more
    setTimeout(() => URL.revokeObjectURL(url), SECOND_MS);
    announce(t("board.downloaded"));
  }

  async #slips() {
    await this.#tried(() => showSlips(this.#path("/slips"), this.#rollout.name));
  }
}

function stateAt(entry) {
  return entry.state === "pending" && new Date(entry.expires_at) <= new Date() ? "expired" : entry.state;
}

function timeOf(entry, state) {
  return state === "pending" || state === "expired" ? entry.expires_at : entry.since;
}

function phoneOf(device) {
  if (!device) return null;
  const state = said("state", device.stuck_since ? "stuck" : device.state);
  return h("span", { class: "of-phone" }, `${device.product} ${hwIdOf(device.hw_id)}, ${state}`);
}

/** Say what an administrator should look after, and since when. */
function remarkOf({ reason, changed_at: at, device }) {
  const key = `board.reason.${reason}`;
  const since = device?.stuck_since ?? at;
  return h("small", { class: "warning" }, hasText(key) ? t(key) : reason, " (", moment(since), ")");
}

function doneText(change, { changed, missed }) {
  const text = t(`board.${change}-done`, { count: changed });
  if (missed.length === 0) return text;
  const named = missed.slice(0, MAX_MISSED_TOLD).join(", ");
  return `${text} ${t("board.missed", { count: missed.length, named: missed.length > MAX_MISSED_TOLD ? `${named}, …` : named })}`;
}

function fileNameOf(name) {
  return name.replace(/[^\p{L}\p{N}]+/gu, "-").replace(/^-|-$/g, "") || "codes";
}
