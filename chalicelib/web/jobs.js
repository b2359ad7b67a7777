// A domain's jobs: its firmware, what its devices shall load, and how they shall be configured.
// It must not know the configuration types: the service lists them, and forms are made from that.

import { ask, h, moment, said, t } from "./dom.js";
import { call, pages } from "./client.js";
import { Listing, attempt, choice, doing, done, field, form, make, refuse, whenBack } from "./devices_forms.js";
import { categoryOf } from "./device.js";
import { ParameterFields } from "./parameters.js";

const EVERY = "*";
const SOFTWARE = "software";
const LIMIT = 20;
const MAX_COUNTED = 100;
const LISTS = ["software", "config"];

/** Show the part; returns what ends it. */
export async function show(place, site) {
  const page = new Jobs(site);
  await page.read();
  page.draw(place);
  return whenBack(() => page.readAgain());
}

class Jobs {
  #site;
  #categories = [];
  #types = [];
  #firmware = {};
  #problems = h("div", {});
  #places = Object.fromEntries(LISTS.map((list) => [list, h("div", {})]));
  #listings;

  constructor(site) {
    this.#site = site;
    this.#listings = Object.fromEntries(LISTS.map((list) => [list, this.#listing(list)]));
  }

  async read() {
    const [categories, types, firmware] = await Promise.all([
      call("GET", `${this.#site.path}/categories`),
      call("GET", "/configuration-types"),
      call("GET", `${this.#site.path}/firmware`),
      ...Object.values(this.#listings).map((listing) => listing.begin()),
    ]);
    // what phones come to first, so that a form begins with what is mostly meant
    this.#categories = categories.items.sort((one, other) => other.provisioning - one.provisioning);
    this.#types = types.items;
    this.#firmware = firmware;
  }

  async readAgain() {
    await attempt(this.#problems, async () => {
      for (const listing of Object.values(this.#listings)) await listing.read();
    });
  }

  draw(place) {
    if (this.#categories.length === 0) {
      const link = h("a", { href: this.#site.to("categories") }, t("devices.make-category"));
      place.append(h("p", { class: "card" }, t("jobs.no-category"), " ", link));
    }
    place.append(
      this.#problems,
      h("h3", {}, t("jobs.software")),
      this.#places.software,
      h("div", { class: "forms" }, this.#firmwareForm(), this.#softwareForm()),
      h("h3", {}, t("jobs.configuration")),
      this.#places.config,
      h("div", { class: "forms" }, this.#configurationForm()),
    );
  }

  #listing(list) {
    return new Listing(this.#places[list], {
      label: t(list === SOFTWARE ? "jobs.software" : "jobs.configuration"),
      empty: t("jobs.none"),
      columns: [
        [t("devices.job"), (job) => said("type", job.type)],
        [t("devices.category"), (job) => categoryOf(job.category)],
        [t("jobs.what"), (job) => this.#contents(job)],
        [t("devices.made"), (job) => madeOf(job)],
        [t("devices.action"), (job) => this.#deleting(job, list)],
      ],
      read: (cursor) => call("GET", `${this.#site.path}/jobs/${list}`, { query: { limit: LIMIT, cursor } }),
    });
  }

  #contents(job) {
    return h(
      "details",
      {},
      h("summary", {}, job.type === SOFTWARE ? Object.keys(job.parameters).join(", ") : t("jobs.values")),
      h("pre", { tabindex: "0", role: "group", "aria-label": t("jobs.values") }, JSON.stringify(job.parameters, null, 2)),
    );
  }

  #deleting(job, list) {
    const told = { type: said("type", job.type), category: categoryOf(job.category) };
    return doing(
      t("devices.delete"),
      this.#problems,
      async () => {
        if (!(await ask(t("jobs.delete"), t("jobs.delete-sure", told), t("devices.delete"), { isDangerous: true }))) return;
        await call("DELETE", `${this.#site.path}/jobs/${job.job_id}`);
        await this.#listings[list].read();
        done(this.#problems, t("jobs.deleted", told));
      },
      { "aria-label": t("jobs.delete-it", told) },
    );
  }

  #firmwareForm() {
    const isThere = Object.keys(this.#firmware).length > 0;
    const text = h("textarea", { name: "firmware", rows: "12", spellcheck: "false", class: "mono" });
    text.value = JSON.stringify(isThere ? this.#firmware : EXAMPLE, null, 2);
    const place = field("*", t("jobs.firmware"), text, t(isThere ? "jobs.firmware-hint" : "jobs.firmware-example"));
    return form({ class: "card" }, [place], t("jobs.save-firmware"), async (_, problems) => {
      let wanted;
      try {
        wanted = JSON.parse(text.value);
      } catch {
        return refuse(place, t("jobs.no-json"));
      }
      this.#firmware = await call("PUT", `${this.#site.path}/firmware`, { body: wanted });
      done(problems, t("jobs.firmware-saved"));
    });
  }

  #softwareForm() {
    const category = this.#categoryChoice();
    const place = field("category", t("devices.category"), category, t("jobs.software-hint"));
    return form({ class: "card" }, [h("h4", {}, t("jobs.new-software")), place], t("jobs.make"), (_, problems) =>
      this.#make(problems, "software", SOFTWARE, { category: category.value }),
    );
  }

  #configurationForm() {
    const category = this.#categoryChoice();
    const types = this.#types.map(({ type }) => [type, said("type", type)]);
    const type = choice("type", types);
    const about = h("p", { class: "quiet" });
    const shown = h("div", {});
    const known = new Map(); // what was typed for a type stays while another one is looked at
    const current = () => this.#types.find((one) => one.type === type.value);
    const draw = () => {
      if (!known.has(type.value)) known.set(type.value, new ParameterFields(current().parameters));
      about.textContent = said("about", current().about);
      shown.replaceChildren(known.get(type.value).element);
    };
    type.addEventListener("change", draw);
    draw();
    const parts = [
      h("h4", {}, t("jobs.new-configuration")),
      field("category", t("devices.category"), category),
      field("type", t("jobs.type"), type),
      about,
      shown,
    ];
    return form({ class: "card" }, parts, t("jobs.make"), async (_, problems) => {
      const parameters = known.get(type.value).read();
      if (parameters === null) return undefined;
      const missing = current().parameters.find(({ name, is_required: isRequired }) => isRequired && parameters[name] === undefined);
      if (missing) return refuse(shown.querySelector(`[data-field="${missing.name}"]`), t("devices.missing"));
      const body = { category: category.value, type: type.value, parameters };
      await this.#make(problems, "config", type.value, body, () => {
        known.delete(type.value); // no secret stays on the page
        draw();
      });
    });
  }

  #categoryChoice() {
    const names = this.#categories.map(({ name }) => [name, name]);
    return choice("category", [...names, [EVERY, t("devices.every-category")]]);
  }

  async #make(problems, list, type, body, then = () => {}) {
    const words = await this.#consequences(list, type, body.category);
    if (!(await ask(t("jobs.make"), words, t("jobs.make")))) return;
    await make(`${this.#site.path}/jobs/${list}`, body);
    await this.#listings[list].begin();
    then();
    done(problems, t("jobs.made", { type: said("type", type), category: categoryOf(body.category) }));
  }

  /** Say what a job would change: for which devices, how many they are, and which job it takes the place of. */
  async #consequences(list, type, category) {
    const [count, before] = await Promise.all([this.#count(category), this.#before(list, type, category)]);
    const told = { type: said("type", type), category: categoryOf(category), count };
    return [
      t(category === EVERY ? "jobs.for-all" : "jobs.for-category", told),
      before ? t("jobs.supersedes", { category: categoryOf(before.category), made: moment(before.created_at).textContent }) : t("jobs.first"),
      type === SOFTWARE ? t("jobs.copies-firmware") : "",
    ].join(" ");
  }

  async #count(category) {
    const query = { category: category === EVERY ? "" : category, limit: MAX_COUNTED };
    const { items, next } = await call("GET", `${this.#site.path}/devices`, { query });
    return next ? t("jobs.more-than", { count: MAX_COUNTED }) : String(items.length);
  }

  async #before(list, type, category) {
    const isMet = (job) => job.type === type && (category === EVERY || [category, EVERY].includes(job.category));
    for await (const { items } of pages(`${this.#site.path}/jobs/${list}`, { limit: 100 })) {
      const found = items.find(isMet); // the newest comes first
      if (found) return found;
    }
    return null;
  }
}

const EXAMPLE = {
  IP232: {
    prot: { build: "134250", url: "https://firmware.example.com/134250/ip232.bin" },
    boot: { build: "131286", url: "https://firmware.example.com/131286/boot232.bin" },
  },
};

function madeOf(job) {
  return h("span", {}, moment(job.created_at), h("small", {}, job.created_by));
}
