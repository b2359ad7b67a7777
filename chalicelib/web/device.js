// One device of a domain: what it is, which jobs it gets and why, and an administrator's hand on it.
// It must not judge a job: the service explains them.

import { announce, ask, carry, codeOf, fill, h, hwIdOf, moment, said, stateOf, t } from "./dom.js";
import { call } from "./client.js";
import { attempt, choice, doing, done, field, form, hwIdIn, input, make, refuse, whenBack, whenHeard } from "./devices_forms.js";
import { pbxOf } from "./pbx_words.js";

const MATCHES = "matches";

/** Show a device; returns what ends it. */
export async function showDevice(place, site, hwId) {
  const page = new DevicePage(place, site, hwId);
  await page.read();
  page.drawActions();
  const ends = [whenBack(() => page.readAgain()), whenHeard((device) => page.hear(device))];
  return () => ends.forEach((end) => end());
}

class DevicePage {
  #site;
  #path;
  #device = null;
  #jobs = [];
  #categories = [];
  #problems = h("div", {});
  #facts = h("div", {});
  #explained = h("div", {});
  #actions = h("div", {});

  constructor(place, site, hwId) {
    this.#site = site;
    this.#path = `${site.path}/devices/${encodeURIComponent(hwId)}`;
    place.append(
      h("p", {}, h("a", { href: site.to("devices") }, t("devices.all"))),
      this.#problems,
      this.#facts,
      this.#explained,
      this.#actions,
    );
  }

  async read() {
    const [device, explained, categories] = await Promise.all([
      call("GET", this.#path),
      call("GET", `${this.#path}/explain`),
      call("GET", `${this.#site.path}/categories`),
    ]);
    this.#device = device;
    this.#jobs = explained.items;
    this.#categories = categories.items;
    this.#drawFacts();
    this.#drawJobs();
  }

  async readAgain() {
    await attempt(this.#problems, () => this.read());
  }

  /** Show what is heard of it; its jobs stay as they were read. */
  hear(device) {
    if (device.hw_id !== this.#device.hw_id) return;
    this.#device = { ...this.#device, ...device };
    this.#drawFacts();
  }

  #name() {
    return this.#device.name || this.#device.product || t("devices.nameless");
  }

  #drawFacts() {
    const device = this.#device;
    const facts = [
      [t("devices.mac"), hwIdOf(device.hw_id)],
      [t("devices.product"), `${device.product || "–"} ${device.version}`.trim()],
      [t("devices.running"), t("devices.builds", { prot: device.prot || "–", boot: device.boot || "–" })],
      [t("devices.category"), device.category],
      [t("devices.user"), device.user || "–"],
      [t("devices.app"), device.app || "–"],
      [t("devices.address"), device.local_ip || "–"],
      [t("devices.registered"), moment(device.registered_at)],
      [t("devices.seen"), moment(device.last_seen_at)],
    ];
    fill(
      this.#facts,
      h("h3", {}, this.#name()),
      h("p", {}, stateOf(device.stuck_since ? "stuck" : device.state)),
      device.pbx && h("p", {}, pbxOf(device.pbx)),
      device.stuck_since && h("p", { class: "warning" }, t("devices.stuck-since"), " ", moment(device.stuck_since)),
      h("dl", { class: "facts" }, facts.map(([words, value]) => h("div", {}, h("dt", {}, words), h("dd", {}, value)))),
      doing(t("devices.read-again"), this.#problems, () => this.read()),
    );
  }

  #drawJobs() {
    const got = this.#jobs.filter(({ fit }) => fit === MATCHES);
    const others = this.#jobs.filter(({ fit }) => fit !== MATCHES);
    this.#explained.replaceChildren(
      h("h3", {}, t("devices.its-jobs")),
      got.length === 0 ? h("p", {}, t("devices.no-job")) : this.#table(t("devices.its-jobs"), got),
      h(
        "details",
        { hidden: others.length === 0 },
        h("summary", {}, t("devices.other-jobs", { count: others.length })),
        this.#table(t("devices.other-jobs", { count: others.length }), others),
      ),
    );
  }

  #table(label, jobs) {
    const columns = ["job", "category", "made", "why"].map((name) => h("th", { scope: "col" }, t(`devices.${name}`)));
    const row = (job) =>
      h(
        "tr",
        {},
        h("th", { scope: "row" }, said("type", job.type)),
        h("td", { "data-label": t("devices.category") }, categoryOf(job.category)),
        h("td", { "data-label": t("devices.made") }, moment(job.created_at)),
        h("td", { "data-label": t("devices.why") }, this.#why(job)),
      );
    return h(
      "table",
      { "aria-label": label },
      h("thead", {}, h("tr", {}, columns)),
      h("tbody", {}, jobs.map(row)),
    );
  }

  /** Say where a job stands with this device, or why it does not get it. */
  #why(job) {
    const failure = this.#device.failures.find((known) => known.job_id === job.job_id);
    const later = this.#jobs.find((known) => known.job_id === job.superseded_by);
    return [
      job.standing ? stateOf(job.standing) : said("fit", job.fit),
      later && h("small", {}, `${said("type", later.type)}, ${categoryOf(later.category)}, `, moment(later.created_at)),
      failure && h("small", {}, t("devices.failed", { count: failure.count, reason: failure.reason || "–" }), " ", moment(failure.at)),
      failure?.retry_at && h("small", {}, t("devices.retry"), " ", moment(failure.retry_at)),
    ].filter(Boolean);
  }

  drawActions() {
    this.#actions.replaceChildren(
      h("h3", {}, t("devices.change")),
      h("div", { class: "forms" }, this.#renaming(), this.#moving(), this.#replacing()),
      this.#ending(),
    );
  }

  #renaming() {
    const name = input("name", { value: this.#device.name, maxlength: "200" });
    return form({ class: "card" }, [field("name", t("devices.name"), name)], t("devices.rename"), async (_, problems) => {
      await call("PATCH", this.#path, { body: { name: name.value.trim() } });
      await this.read();
      done(problems, t("devices.renamed"));
    });
  }

  #moving() {
    const others = this.#categories.map(({ name }) => [name, name]);
    const category = choice("category", others, this.#device.category);
    const brings = h("p", { role: "status" });
    category.addEventListener("change", () => attempt(brings, () => this.#tell(brings, category.value)));
    const place = field("category", t("devices.category"), category);
    return form({ class: "card" }, [place, brings], t("devices.move"), async (_, problems) => {
      const told = { name: this.#name(), category: category.value };
      if (!(await ask(t("devices.move"), t("devices.move-sure", told), t("devices.move")))) return;
      await call("PATCH", this.#path, { body: { category: category.value } });
      await this.read();
      brings.replaceChildren();
      done(problems, t("devices.moved", told));
    });
  }

  /** Say which jobs a device would get in another category. */
  async #tell(place, category) {
    const { items } = await call("GET", `${this.#path}/explain`, { query: { category } });
    const got = items.filter(({ fit }) => fit === MATCHES).map(({ type }) => said("type", type));
    place.textContent = got.length > 0 ? t("devices.would-get", { jobs: got.join(", ") }) : t("devices.would-get-none");
  }

  #replacing() {
    const mac = input("hw_id");
    const place = field("hw_id", t("devices.new-mac"), mac, t("devices.mac-hint"));
    return form({ class: "card" }, [place], t("devices.replace"), async (_, problems) => {
      if (!hwIdIn(mac.value)) return refuse(place, t("devices.no-mac"));
      const told = { name: this.#name(), mac: mac.value.trim() };
      if (!(await ask(t("devices.replace"), t("devices.replace-sure", told), t("devices.replace"), { isDangerous: true }))) return;
      const { device, code } = await make(`${this.#path}/replace`, { hw_id: mac.value.trim() });
      this.#replaced(problems, device, code);
    });
  }

  #replaced(problems, device, code) {
    problems.replaceChildren(
      h(
        "div",
        { class: "done" },
        h("p", {}, t("devices.replaced"), " ", h("a", { href: this.#site.to("devices", device.hw_id) }, hwIdOf(device.hw_id))),
        ...(code ? [h("p", {}, t("devices.type-code")), h("p", {}, codeOf(code.code)), h("p", {}, t("devices.until"), " ", moment(code.expires_at))] : []),
      ),
    );
    announce(t("devices.replaced"));
  }

  #ending() {
    const problems = h("div", {});
    const end = (what, work) =>
      doing(
        t(`devices.${what}`),
        problems,
        async () => {
          const sure = t(`devices.${what}-sure`, { name: this.#name() });
          if (!(await ask(t(`devices.${what}`), sure, t(`devices.${what}`), { isDangerous: true }))) return;
          await work();
          carry(t(`devices.${what}d`, { name: this.#name() }));
          location.hash = this.#site.to("devices");
        },
        { class: "dangerous" },
      );
    return h(
      "div",
      {},
      h(
        "p",
        { class: "actions" },
        end("release", () => make(`${this.#path}/release`, undefined)),
        end("remove", () => call("DELETE", this.#path)),
      ),
      problems,
    );
  }
}

/** Name a job's category in words. */
export function categoryOf(category) {
  return category === "*" ? t("devices.every-category") : category;
}
