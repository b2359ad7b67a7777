// A domain's PBX: how we stand with it, which phones wait for it, its users, and how it is spoken to.
// It must not show its password: the service does not tell it.

import { announce, ask, fill, h, hwIdOf, moment, t } from "./dom.js";
import { call } from "./client.js";
import { Listing, attempt, choice, doing, done, field, form, input, make, refuse, tick, whenBack, whenHeard } from "./devices_forms.js";
import { PbxUsers } from "./pbx_users.js";
import { toDoOf, whyOf } from "./pbx_words.js";

const FLAGS = ["reverse_proxy", "tls_only", "no_mobility"];
const NONE = { address: "", app_object: "", has_password: false, find_by: "sip", reverse_proxy: false, tls_only: false, no_mobility: false, imports_users: false };
const MAX_COUNTED = 1000;
const READ_AGAIN_MS = 2000;
const UNDER_WAY_MS = 60_000;
const USERS_API = "PbxTableUsers";
const CERTIFICATE = "certificate";

/** Show the part; returns what ends it. */
export async function show(place, site) {
  const { has_pbx: isThere } = await call("GET", site.path);
  const page = new PbxPage(place, site);
  page.draw(isThere ? await call("GET", `${site.path}/pbx`) : null);
  return page.follow();
}

class PbxPage {
  #site;
  #path;
  #known = null;
  #again = null;
  #underWay = 0; // until when phones that wait are on their way, as far as we know
  #problems = h("div", {});
  #standing = h("div", {});
  #count = h("p", {});
  #waiting = h("div", {});
  #checked = h("div", {});
  #users;
  #overview;
  #form;
  #listing;

  constructor(place, site) {
    this.#site = site;
    this.#path = `${site.path}/pbx`;
    this.#listing = new Listing(this.#waiting, {
      label: t("pbx.waiting"),
      empty: t("pbx.none-waits"),
      columns: [
        [t("devices.device"), ({ hw_id: hwId }) => h("a", { href: site.to("devices", hwId) }, hwIdOf(hwId))],
        [t("devices.user"), ({ user }) => user],
        [t("pbx.attempts"), ({ attempts }) => String(attempts)],
        [t("pbx.reason"), ({ reason }) => (reason ? [whyOf(reason), h("small", {}, toDoOf(reason))] : "–")],
      ],
      read: async () => ({ items: this.#known.waiting, next: null }),
    });
    this.#users = new PbxUsers(this.#path, () => this.#readSoon());
    this.#overview = h(
      "div",
      { hidden: true },
      this.#standing,
      h(
        "p",
        { class: "actions" },
        doing(t("pbx.check"), this.#problems, () => this.#check()),
        doing(t("pbx.redrive"), this.#problems, () => this.#redrive()),
        doing(t("devices.read-again"), this.#problems, () => this.#read()),
      ),
      this.#problems,
      this.#checked,
      h("h3", {}, t("pbx.waiting")),
      this.#count,
      this.#waiting,
      this.#users.element,
    );
    this.#form = new PbxForm(this.#path, (known) => {
      this.draw(known);
      this.#watch();
      this.#users.follow();
    });
    place.append(h("p", {}, t("pbx.about")), this.#overview, this.#form.element);
  }

  /** Read again what may have changed, as phones are heard of and after a time without a connection. */
  follow() {
    const soon = () => this.#readSoon();
    const ends = [whenBack(soon), whenHeard(soon)];
    return () => {
      ends.forEach((end) => end());
      this.#underWay = 0;
      this.#users.end();
      clearTimeout(this.#again);
    };
  }

  /** Show a PBX as the service told of it, null for none. */
  draw(known) {
    // what a test found was found with other settings
    this.#checked.replaceChildren();
    this.#form.tell(known);
    this.#drawOverview(known);
  }

  #drawOverview(known) {
    const before = this.#known?.trouble?.reason;
    const now = known?.trouble?.reason;
    if (this.#known && known && before !== now) announce(now ? whyOf(now) : t("pbx.no-trouble"));
    this.#known = known;
    this.#overview.hidden = known === null;
    if (!known) return undefined;
    fill(this.#standing, known.trouble ? troubleOf(known.trouble) : h("p", {}, t("pbx.no-trouble")));
    this.#users.draw(known);
    const { waiting_count: count, waiting } = known;
    this.#count.hidden = count === 0;
    fill(
      this.#count,
      t(count < MAX_COUNTED ? "pbx.count" : "pbx.count-more", { count }),
      count > waiting.length && ` ${t("pbx.shown", { count: waiting.length })}`,
    );
    if (count > 0 && Date.now() < this.#underWay) this.#readSoon();
    return this.#listing.read();
  }

  async #read() {
    // what is being typed into the form stays
    await this.#drawOverview(await call("GET", this.#path));
  }

  /** All phones are handed over from now on: read how far that is, for a while. */
  #watch() {
    this.#underWay = Date.now() + UNDER_WAY_MS;
    this.#readSoon();
  }

  /** Read what has become of it, not more often than every two seconds. */
  #readSoon() {
    this.#again ??= setTimeout(() => {
      this.#again = null;
      if (this.#known) attempt(this.#problems, () => this.#read());
    }, READ_AGAIN_MS);
  }

  async #check() {
    this.#checked.replaceChildren();
    const found = await make(`${this.#path}/check`, undefined);
    const words = t(found.is_good ? "pbx.is-good" : "pbx.is-not-good");
    this.#checked.replaceChildren(
      h(
        "section",
        { class: found.is_good ? "card good" : "card", "aria-labelledby": "checked" },
        h("h3", { id: "checked" }, words),
        h("ol", { class: "checks" }, stepsOf(found, this.#known.address)),
        found.is_good && h("p", {}, t(found.knows_you ? "pbx.knows-you" : "pbx.knows-you-not")),
      ),
    );
    announce(found.is_good ? words : `${words} ${whyOf(found.trouble)} ${toDoOf(found.trouble)}`);
  }

  async #redrive() {
    await make(`${this.#path}/redrive`, undefined);
    this.#watch();
    done(this.#problems, t("pbx.redriven"));
  }
}

/** Say what is wrong with a PBX, since when, and when it is tried again. */
function troubleOf({ reason, since, attempts, retry_at: retryAt }) {
  const facts = [
    [t("pbx.since"), moment(since)],
    [t("pbx.attempts"), String(attempts)],
    [t("pbx.retry"), moment(retryAt, { dateStyle: "medium", timeStyle: "medium" })],
  ];
  return h(
    "div",
    { class: "problem" },
    h("p", { class: "warning" }, whyOf(reason)),
    h("p", {}, toDoOf(reason)),
    h("dl", { class: "facts" }, facts.map(([words, value]) => h("div", {}, h("dt", {}, words), h("dd", {}, value)))),
  );
}

/** Write how each step of a test went, and what to do about the one that failed. */
function stepsOf({ steps, trouble }, address) {
  const isPlain = address.startsWith("ws:");
  const failed = trouble ? steps.findIndex(({ is_good: isGood }) => isGood === false) : steps.length;
  return steps.map(({ step, is_good: isGood }, at) => {
    const unknown = at > failed ? "not-reached" : isPlain && step === CERTIFICATE ? "not-needed" : "unknown";
    const went = isGood === null ? unknown : isGood ? "good" : "failed";
    return h(
      "li",
      { "data-step": step },
      h("span", { class: "state", "data-state": went }, t(`pbx.step-${step}`), ": ", t(`pbx.went-${went}`)),
      at === failed && h("p", { class: "warning" }, whyOf(trouble), " ", toDoOf(trouble)),
      isGood === false && step === USERS_API && h("p", {}, t("pbx.no-users-api")),
    );
  });
}

/** The settings of a PBX, or of a first one. */
class PbxForm {
  element;
  #path;
  #tell;
  #known = NONE;
  #address = input("address", { inputmode: "url", maxlength: "1000" });
  #app = input("app_object", { maxlength: "100" });
  #password = input("password", { type: "password", autocomplete: "new-password", maxlength: "100" });
  #findBy = choice("find_by", ["sip", "name"].map((by) => [by, t(`pbx.find-by-${by}`)]));
  #flags = FLAGS.map((name) => tick(name, t(`pbx.${name}`), false));
  #imports = tick("imports_users", t("pbx.imports_users"), false);
  #isSet = h("p", { class: "quiet" });
  #removing;

  /** `tell` hears of the PBX as it is saved, and of null when it was removed. */
  constructor(path, tell) {
    this.#path = path;
    this.#tell = tell;
    const parts = [
      h("h3", {}, t("devices.part-settings")),
      field("address", t("pbx.address"), this.#address, t("pbx.address-hint")),
      field("app_object", t("pbx.app-object"), this.#app, t("pbx.app-object-hint")),
      this.#isSet,
      field("password", t("pbx.password"), this.#password, t("pbx.password-hint")),
      field("find_by", t("pbx.find-by"), this.#findBy, t("pbx.find-by-hint")),
      this.#imports,
      h("fieldset", {}, h("legend", {}, t("pbx.flags")), this.#flags, h("small", {}, t("pbx.flags-hint"))),
    ];
    this.element = form({ class: "card", "aria-label": t("pbx.settings") }, parts, t("devices.save"), (_, problems) => this.#save(problems));
    const problems = this.element.lastElementChild;
    this.#removing = doing(t("pbx.remove"), problems, () => this.#remove(problems), { class: "dangerous" });
    this.element.querySelector(".actions").append(this.#removing);
  }

  /** Show the settings of a PBX, null for none. */
  tell(known) {
    this.#known = known ?? NONE;
    this.#address.value = this.#known.address;
    this.#app.value = this.#known.app_object;
    this.#password.value = "";
    this.#findBy.value = this.#known.find_by;
    FLAGS.forEach((name, at) => (this.#boxes[at].checked = this.#known[name]));
    this.#imports.querySelector("input").checked = this.#known.imports_users;
    this.#isSet.textContent = t(this.#known.has_password ? "settings.has-password" : "pbx.no-password");
    this.#removing.hidden = known === null;
  }

  get #boxes() {
    return this.#flags.map((label) => label.querySelector("input"));
  }

  async #save(problems) {
    const body = {
      address: this.#address.value.trim(),
      app_object: this.#app.value.trim(),
      find_by: this.#findBy.value,
      ...Object.fromEntries(FLAGS.map((name, at) => [name, this.#boxes[at].checked])),
      imports_users: this.#imports.querySelector("input").checked,
      ...(this.#password.value === "" ? {} : { password: this.#password.value }),
    };
    const isNew = !this.#known.has_password;
    const missing = ["address", "app_object", ...(isNew ? ["password"] : [])].filter((name) => !body[name]);
    // the first one last, for there the focus stays
    missing.reverse().forEach((name) => refuse(this.element.querySelector(`[data-field="${name}"]`), t("devices.missing")));
    if (missing.length > 0) return;
    this.#tell(await call("PUT", this.#path, { body }));
    done(problems, t("pbx.saved"));
  }

  async #remove(problems) {
    if (!(await ask(t("pbx.remove"), t("pbx.remove-sure"), t("pbx.remove"), { isDangerous: true }))) return;
    await call("DELETE", this.#path);
    this.#tell(null);
    done(problems, t("pbx.removed"));
    this.#address.focus();
  }
}
