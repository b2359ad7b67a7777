// A domain's users: to select some or all of them, and to import them from a file.
// It must not know what they are selected for.

import { announce, fill, h, once, said, showProblem, t } from "./dom.js";
import { Problem, call, newKey } from "./client.js";
import { patiently } from "./patience.js";

const PAGE = 100;
const MAX_LIMIT = 1000;
const MAX_LINES = 200;

/** The table of users: paged, searched, and selected over all pages. */
export class UserPicker {
  selected = new Set();
  #loaded = [];
  #cursor = null;
  #isWhole = false;
  #page = 0;
  #isOver = false;
  #loading = Promise.resolve();
  #changed;
  #problems = h("div", {});
  #search = h("input", { type: "search", name: "search", autocomplete: "off", oninput: () => this.#searched() });
  #table = h("div", { class: "listed" });
  #pager = h("p", { class: "actions pager" });
  #more = h("p", { class: "actions" });
  #sum = h("p", { role: "status", class: "sum" });
  #onPage = h("input", { type: "checkbox", onchange: () => this.#selectPage() });
  #all = h("button", { type: "button", onclick: () => this.#selectAll() }, t("users.select-all"));
  #none = h("button", { type: "button", onclick: () => this.#clear() }, t("users.select-none"));
  #progress = h("progress", { hidden: true, "aria-label": t("users.loading") });

  /** Take what hears that the selection has changed. */
  constructor(changed) {
    this.#changed = changed;
  }

  /** Make its elements, for a page to show. */
  element() {
    return h(
      "div",
      {},
      this.#problems,
      h(
        "div",
        { class: "row" },
        h("label", {}, h("span", {}, t("users.search")), this.#search),
        this.#all,
        this.#none,
        this.#progress,
      ),
      this.#sum,
      h("label", { class: "check" }, this.#onPage, h("span", {}, t("users.select-page"))),
      this.#table,
      this.#more,
      this.#pager,
    );
  }

  /** Read the list from its start; what is selected stays so. */
  async read() {
    this.#loaded = [];
    this.#cursor = null;
    this.#isWhole = false;
    this.#page = 0;
    await this.#load(PAGE);
    this.#draw();
  }

  get isUnread() {
    return !this.#isWhole && this.#loaded.length === 0;
  }

  get isEmpty() {
    return this.#isWhole && this.#loaded.length === 0;
  }

  /** Say what is selected, after it was changed from outside. */
  show() {
    this.#draw();
  }

  /** Stop what is still loading. */
  end() {
    this.#isOver = true;
  }

  /** Load the next users, after whatever is being loaded, for no page may come twice. */
  #load(limit) {
    const list = this.#loaded;
    const load = async () => {
      if (list !== this.#loaded || this.#isWhole) return;
      const read = () => call("GET", "/users", { query: { limit, cursor: this.#cursor } });
      const page = await patiently(read, undefined, () => this.#isOver);
      if (list !== this.#loaded) return;
      list.push(...page.items);
      this.#cursor = page.next;
      this.#isWhole = !page.next;
    };
    this.#loading = this.#loading.then(load, load);
    return this.#loading;
  }

  #found() {
    const wanted = this.#search.value.trim().toLowerCase();
    if (!wanted) return this.#loaded;
    return this.#loaded.filter((user) => [user.name, user.number, user.sip].some((text) => text.toLowerCase().includes(wanted)));
  }

  #shown() {
    return this.#found().slice(this.#page * PAGE, (this.#page + 1) * PAGE);
  }

  #searched() {
    this.#page = 0;
    this.#draw();
  }

  async #go(step) {
    await this.#work(async () => {
      const page = this.#page + step;
      while (!this.#isWhole && this.#found().length <= page * PAGE && !this.#isOver) await this.#load(PAGE);
      // until it has come, the page that shows is the one that can be selected
      if (this.#found().length > page * PAGE) this.#page = page;
    });
    this.#draw();
    this.#table.querySelector("input")?.focus();
  }

  async #work(work) {
    this.#problems.replaceChildren();
    try {
      await work();
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      if (!this.#isOver) showProblem(this.#problems, error);
    }
  }

  /** Load whatever is not loaded yet, and say how far that is. */
  async #loadAll(button) {
    await once(button, () =>
      this.#work(async () => {
        this.#progress.hidden = this.#isWhole;
        try {
          while (!this.#isWhole && !this.#isOver) {
            this.#sum.textContent = t("users.loaded", { count: this.#loaded.length });
            await this.#load(MAX_LIMIT);
          }
        } finally {
          this.#progress.hidden = true;
        }
      }),
    );
  }

  async #selectAll() {
    await this.#loadAll(this.#all);
    if (this.#isWhole && !this.#isOver) this.#found().forEach((user) => this.selected.add(user.sip));
    this.#draw();
    this.#changed();
  }

  #clear() {
    this.selected.clear();
    this.#draw();
    this.#changed();
  }

  #selectPage() {
    for (const { sip } of this.#shown()) this.#select(sip, this.#onPage.checked);
    this.#draw();
    this.#changed();
  }

  #select(sip, isSelected) {
    if (isSelected) this.selected.add(sip);
    else this.selected.delete(sip);
  }

  #draw() {
    const found = this.#found();
    const shown = this.#shown();
    const isSearched = this.#search.value.trim() !== "";
    fill(
      this.#table,
      shown.length === 0
        ? h("p", {}, t(isSearched ? "users.none-found" : "users.none"))
        : h(
            "table",
            { class: "users" },
            h("thead", {}, h("tr", {}, ["select", "name", "number"].map((name) => h("th", { scope: "col" }, t(`users.column-${name}`))))),
            h("tbody", {}, shown.map((user) => this.#row(user))),
          ),
    );
    const more = h("button", { type: "button", onclick: () => this.#searchAll(more) }, t("users.search-all"));
    fill(this.#more, isSearched && !this.#isWhole && [t("users.searched", { count: this.#loaded.length }), more]);
    this.#drawPager(found.length);
    this.#all.textContent = t(isSearched ? "users.select-found" : "users.select-all");
    this.#say();
  }

  async #searchAll(button) {
    await this.#loadAll(button);
    this.#draw();
    this.#search.focus();
  }

  #drawPager(count) {
    const isLast = this.#isWhole && (this.#page + 1) * PAGE >= count;
    const button = (name, step, isThere) => {
      const made = h("button", { type: "button", disabled: !isThere, onclick: () => once(made, () => this.#go(step)) }, t(`paging.${name}`));
      return made;
    };
    fill(
      this.#pager,
      !(this.#page === 0 && isLast) && [
        button("previous", -1, this.#page > 0),
        h("span", {}, t("paging.page", { number: this.#page + 1 })),
        button("next", 1, !isLast),
      ],
    );
  }

  #row(user) {
    const name = user.name || user.sip;
    const box = h("input", {
      type: "checkbox",
      "aria-label": t("users.select", { name }),
      checked: this.selected.has(user.sip),
      onchange: () => {
        this.#select(user.sip, box.checked);
        this.#say();
        this.#changed();
      },
    });
    return h(
      "tr",
      { "data-sip": user.sip },
      h("td", {}, box),
      h("th", { scope: "row" }, name, h("small", {}, user.sip)),
      h("td", {}, user.number || "–"),
    );
  }

  #say() {
    const shown = this.#shown();
    const count = shown.filter(({ sip }) => this.selected.has(sip)).length;
    this.#onPage.checked = count > 0 && count === shown.length;
    this.#onPage.indeterminate = count > 0 && count < shown.length;
    this.#onPage.disabled = shown.length === 0;
    this.#sum.textContent = t("users.selected", {
      count: this.selected.size,
      loaded: t(this.#isWhole ? "users.of-all" : "users.of-loaded", { count: this.#loaded.length }),
    });
  }
}

/** Make what imports users from a file: it is checked first; `done` hears when they are there. */
export function userImport(done) {
  const problems = h("div", {});
  const outcome = h("div", {});
  const input = h("input", { type: "file", name: "file", required: true, accept: ".csv,.txt,text/csv,text/plain" });
  const button = h("button", {}, t("users.check"));
  const form = h(
    "form",
    { class: "row", onsubmit: (event) => (event.preventDefault(), check()) },
    h("label", {}, h("span", {}, t("users.file")), input),
    button,
  );
  // what was checked is another file's as soon as another one is chosen
  input.addEventListener("change", () => {
    outcome.replaceChildren();
    problems.replaceChildren();
  });

  async function send(query, key) {
    problems.replaceChildren();
    try {
      const [file] = input.files;
      return await patiently(() => call("POST", "/users", { query, key, file }));
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      showProblem(problems, error);
      return null;
    }
  }

  async function check() {
    await once(button, async () => {
      outcome.replaceChildren();
      const report = await send({ dry_run: true });
      if (report) showChecked(report);
    });
  }

  function showChecked(report) {
    const key = newKey();
    const count = report.added + report.changed;
    const skips = h("input", { type: "checkbox", name: "skip", onchange: () => (real.disabled = !skips.checked) });
    const real = h(
      "button",
      { type: "button", class: "primary", disabled: report.wrong > 0, onclick: () => once(real, () => take(report.wrong > 0, key)) },
      t("users.import-them", { count }),
    );
    fill(
      outcome,
      summary("users.would", report),
      report.ignored_columns.length > 0 && h("p", {}, t("users.ignored", { columns: report.ignored_columns.join(", ") })),
      linesOf(report.lines),
      count > 0 && report.wrong > 0 && h("label", { class: "check" }, skips, h("span", {}, t("users.skip-wrong", { count: report.wrong }))),
      h("p", { class: "actions" }, count > 0 ? real : t("users.nothing")),
    );
    announce(outcome.querySelector("p").textContent);
  }

  async function take(skips, key) {
    const report = await send({ skip_wrong: skips || null }, key);
    if (!report) return;
    fill(outcome, summary("users.did", report), linesOf(report.lines));
    announce(outcome.querySelector("p").textContent);
    form.reset();
    await done();
  }

  return h("div", { class: "import" }, h("p", {}, t("users.import-how")), problems, form, outcome);
}

function summary(key, { added, changed, unchanged, wrong }) {
  return h("p", { class: "large" }, t(key, { added, changed, unchanged, wrong }));
}

/** List lines of a report: what is wrong first, for that is what one has to do something about. */
function linesOf(lines) {
  const sorted = ["wrong", "added", "changed"].flatMap((kind) => lines.filter(({ outcome }) => outcome === kind));
  if (sorted.length === 0) return null;
  return [
    h(
      "table",
      { class: "lines" },
      h("thead", {}, h("tr", {}, ["line", "user", "outcome"].map((name) => h("th", { scope: "col" }, t(`users.column-${name}`))))),
      h("tbody", {}, sorted.slice(0, MAX_LINES).map(lineOf)),
    ),
    sorted.length > MAX_LINES && h("p", {}, t("users.more-lines", { count: sorted.length - MAX_LINES })),
  ];
}

function lineOf({ line, sip, outcome, faults }) {
  return h(
    "tr",
    { "data-line": line },
    h("th", { scope: "row" }, t("users.line", { line })),
    h("td", {}, sip || "–"),
    h(
      "td",
      {},
      h("span", { class: "state", "data-state": outcome }, said("users.outcome", outcome)),
      faults.map(({ field, message }) => h("small", {}, field ? `${said("users.field", field)}: ${said("fault", message)}` : said("fault", message))),
    ),
  );
}
