// Register phones: the rollouts there are, and the way to a new one and to each.
// It must not make or change one.

import { fill, h, loading, moment, showProblem, t } from "./dom.js";
import { Problem, call, events } from "./client.js";
import { Paging, newer } from "./paging.js";
import { waiting } from "./rollout_new.js";
import { userImport } from "./users.js";

const PAGE = 25;

/** Show the list, a new rollout, or one; returns what ends it. */
export async function show(place, { me, rest }) {
  const [which] = rest;
  if (which === "new") return (await import("./rollout_new.js")).show(place, { me });
  if (which) return (await import("./rollout_board.js")).show(place, { rolloutId: which });
  const page = new Rollouts(me, place);
  await page.read();
  return page.follow();
}

class Rollouts {
  #known = new Set();
  #paging = new Paging(() => this.#read());
  #problems = h("div", {});
  #listed = h("div", { class: "listed" }, loading());
  #news = newer(() => this.#first());

  constructor(me, place) {
    const left = waiting(me);
    place.append(
      h("h1", {}, t("page.rollouts")),
      h("p", {}, t("rollouts.about")),
      this.#problems,
      ...(left ? [waitingOf(left)] : []),
      h("p", { class: "actions" }, h("a", { class: "button primary", href: "#/rollouts/new" }, t("rollouts.new"))),
      h("h2", {}, t("rollouts.list")),
      this.#news.place,
      this.#listed,
      h("details", {}, h("summary", {}, t("users.import")), userImport(() => {})),
    );
  }

  /** Read the page where one is; tells whether it came. */
  async #read() {
    try {
      await this.read();
      return true;
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      showProblem(this.#problems, error);
      return false;
    }
  }

  async read() {
    const page = await call("GET", "/rollouts", { query: { limit: PAGE, cursor: this.#paging.cursor } });
    this.#problems.replaceChildren();
    page.items.forEach(({ rollout_id: id }) => this.#known.add(id));
    fill(
      this.#listed,
      page.items.length === 0
        ? h("p", {}, t("rollouts.none"))
        : h(
            "table",
            {},
            h("thead", {}, h("tr", {}, ["name", "category", "made", "ends"].map((name) => h("th", { scope: "col" }, t(`rollouts.column-${name}`))))),
            h("tbody", {}, page.items.map(rowOf)),
          ),
      this.#paging.buttons(page.next),
    );
    if (this.#paging.isFirst) this.#news.say(null);
  }

  async #first() {
    this.#paging.restart();
    if (await this.#read()) this.#listed.querySelector("a")?.focus();
  }

  /** Follow what is heard; returns what ends it. */
  follow() {
    const heard = ({ detail }) => {
      if (detail.mt === "RegistrationChanged" && !this.#known.has(detail.rollout_id)) this.#news.say(t("rollouts.newer"));
    };
    const again = () => this.#read();
    events.addEventListener("heard", heard);
    events.addEventListener("connected", again);
    return () => {
      events.removeEventListener("heard", heard);
      events.removeEventListener("connected", again);
    };
  }
}

function waitingOf({ name, left }) {
  const goOn = h("a", { href: "#/rollouts/new" }, t("rollouts.go-on"));
  return h("p", { class: "card" }, t("rollouts.waiting", { name, count: left.length }), " ", goOn);
}

function rowOf(rollout) {
  return h(
    "tr",
    { "data-rollout-id": rollout.rollout_id },
    h("th", { scope: "row" }, h("a", { href: `#/rollouts/${rollout.rollout_id}` }, rollout.name), h("small", {}, rollout.note)),
    h("td", { "data-label": t("rollouts.column-category") }, [rollout.category, rollout.app].filter(Boolean).join(", ")),
    h("td", { "data-label": t("rollouts.column-made") }, moment(rollout.created_at), h("small", {}, rollout.created_by)),
    h("td", { "data-label": t("rollouts.column-ends") }, moment(rollout.ends_at)),
  );
}
