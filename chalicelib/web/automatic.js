// Automatic provisioning: a domain's security token, and the lines and scripts that carry it to phones.
// It must not show a token that nobody asked for: each look is in the audit trail.

import { announce, ask, h, moment, said, t } from "./dom.js";
import { Problem, call } from "./client.js";
import { choice, copied, doing, done, field, form, input, make, refuse } from "./devices_forms.js";

const NOT_FOUND = 404;
const MIN_TOKEN_LENGTH = 10;
const HOUR_SECONDS = 3600;
const DAY_SECONDS = 24 * HOUR_SECONDS;
const KEEP_SECONDS = { none: 0, hour: HOUR_SECONDS, day: DAY_SECONDS, week: 7 * DAY_SECONDS, month: 30 * DAY_SECONDS };
const SCRIPTS = ["show-code-form", "v12-cleanup"];

/** Show the part. */
export async function show(place, site) {
  const { items } = await call("GET", `${site.path}/categories`);
  const categories = items.filter(({ provisioning }) => provisioning);
  if (categories.length === 0) {
    const link = h("a", { href: site.to("categories") }, t("devices.make-category"));
    place.append(h("p", { class: "card" }, t("automatic.no-category"), " ", link));
  } else {
    place.append(new Automatic(site, categories).element);
  }
  place.append(await handouts());
}

class Automatic {
  element;
  #path;
  #category;
  #standing = h("p", { role: "status" });
  #problems = h("div", {});
  #sheet = h("div", {});

  constructor(site, categories) {
    this.#path = `${site.path}/token`;
    this.#category = choice("category", categories.map(({ name }) => [name, name]));
    this.element = h(
      "div",
      {},
      h("p", {}, t("automatic.about")),
      h(
        "div",
        { class: "row" },
        field("category", t("devices.category"), this.#category),
        doing(t("automatic.look"), this.#problems, () => this.#look()),
        doing(t("automatic.turn-off"), this.#problems, () => this.#turnOff(), { class: "dangerous" }),
      ),
      h("p", { class: "quiet" }, t("automatic.audited")),
      this.#standing,
      this.#problems,
      this.#sheet,
      this.#setting(),
    );
    // lines of one category beside the name of another would mislead
    this.#category.addEventListener("change", () => this.#sheet.replaceChildren());
  }

  async #look() {
    try {
      const sheet = await call("GET", this.#path, { query: { category: this.#category.value } });
      this.#draw(sheet, t("automatic.is-on"));
    } catch (error) {
      if (!(error instanceof Problem) || error.status !== NOT_FOUND || error.message !== "unknown token") throw error;
      this.#tellOff();
    }
  }

  async #turnOff() {
    const sure = t("automatic.turn-off-sure");
    if (!(await ask(t("automatic.turn-off"), sure, t("automatic.turn-off"), { isDangerous: true }))) return;
    await call("DELETE", this.#path);
    this.#tellOff();
    announce(t("automatic.is-off"));
  }

  #tellOff() {
    this.#sheet.replaceChildren();
    this.#standing.textContent = t("automatic.is-off");
  }

  #setting() {
    const token = input("token", { maxlength: "200" });
    const keep = choice("keep_old_seconds", Object.keys(KEEP_SECONDS).map((name) => [name, t(`automatic.keep-${name}`)]), "day");
    const parts = [
      h("h3", {}, t("automatic.set")),
      field("token", t("automatic.token"), token, t("automatic.token-hint")),
      field("keep_old_seconds", t("automatic.keep"), keep, t("automatic.keep-hint")),
    ];
    return form({ class: "card" }, parts, t("automatic.turn-on"), async (made, problems) => {
      const place = made.querySelector('[data-field="token"]');
      if (token.value !== "" && token.value.length < MIN_TOKEN_LENGTH) return refuse(place, t("automatic.too-short", { min: MIN_TOKEN_LENGTH }));
      if (!(await ask(t("automatic.turn-on"), t("automatic.turn-on-sure"), t("automatic.turn-on")))) return;
      const body = { category: this.#category.value, keep_old_seconds: KEEP_SECONDS[keep.value] };
      if (token.value !== "") body.token = token.value;
      const sheet = await make(this.#path, body, "PUT");
      token.value = "";
      this.#draw(sheet, t("automatic.is-on"));
      done(problems, t("automatic.turned-on"));
      this.#sheet.firstElementChild.focus();
    });
  }

  #draw(sheet, standing) {
    this.#standing.textContent = standing;
    this.#sheet.replaceChildren(
      h(
        "section",
        { class: "card sheet", tabindex: "-1", "aria-label": t("automatic.lines", { category: this.#category.value }) },
        h("h3", {}, t("automatic.lines", { category: this.#category.value })),
        sheet.is_weak && h("p", { class: "warning" }, t("automatic.weak")),
        h("p", { class: "warning" }, said("warning", sheet.warning)),
        sheet.old_until && h("p", {}, t("automatic.old-until"), " ", moment(sheet.old_until)),
        copied(t("automatic.line-sysclient"), sheet.config_line),
        copied(t("automatic.url-sysclient"), sheet.url),
        copied(t("automatic.line-update"), sheet.update_client_line),
        copied(t("automatic.url-update"), sheet.update_client_url),
        copied(t("automatic.script-sysclient"), sheet.scripts.sysclient),
        copied(t("automatic.script-update"), sheet.scripts.update_client),
      ),
    );
  }
}

async function handouts() {
  const texts = await Promise.all(SCRIPTS.map((name) => call("GET", `/scripts/${name}`)));
  return h(
    "section",
    { "aria-labelledby": "handouts" },
    h("h3", { id: "handouts" }, t("automatic.handouts")),
    SCRIPTS.map((name, at) =>
      h("div", { class: "card" }, h("p", {}, t(`automatic.about-${name}`)), copied(t(`automatic.script-${name}`), texts[at])),
    ),
  );
}
