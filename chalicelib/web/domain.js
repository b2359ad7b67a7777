// A domain itself: its categories, and its settings.
// It must not touch a device or a job.

import { ask, fill, h, said, t } from "./dom.js";
import { call } from "./client.js";
import { Listing, attempt, doing, done, field, form, input, refuse, tick, whenBack } from "./devices_forms.js";

const DEVICE_TYPES = ["PHONE", "ANALOG_PHONE"];

/** Show the categories; returns what ends it. */
export async function showCategories(place, site) {
  const page = new Categories(place, site);
  await page.read();
  return whenBack(() => page.readAgain());
}

class Categories {
  #path;
  #problems = h("div", {});
  #listed = h("div", {});
  #edited = h("div", {});
  #listing;
  #names = [];

  constructor(place, { path }) {
    this.#path = `${path}/categories`;
    this.#listing = new Listing(this.#listed, {
      label: t("devices.part-categories"),
      empty: t("categories.none"),
      columns: [
        [t("devices.category"), ({ name }) => name],
        [t("categories.provisioning"), ({ provisioning }) => t(provisioning ? "devices.yes" : "devices.no")],
        [t("categories.types"), (category) => category.device_types.map((type) => said("device-type", type)).join(", ") || "–"],
        [t("devices.action"), (category) => this.#actions(category)],
      ],
      read: async () => {
        const page = await call("GET", this.#path);
        this.#names = page.items.map(({ name }) => name);
        return page;
      },
    });
    place.append(this.#problems, this.#listed, this.#edited);
    this.#edit();
  }

  async read() {
    await this.#listing.begin();
  }

  async readAgain() {
    await attempt(this.#problems, () => this.read());
  }

  #actions(category) {
    const { name } = category;
    const change = () => this.#edit(category).querySelector('input[type="checkbox"]').focus();
    return h(
      "span",
      { class: "actions" },
      h("button", { type: "button", "aria-label": t("devices.change-it", { name }), onclick: change }, t("devices.change")),
      doing(
        t("devices.delete"),
        this.#problems,
        async () => {
          const sure = t("categories.delete-sure", { name });
          if (!(await ask(t("categories.delete"), sure, t("devices.delete"), { isDangerous: true }))) return;
          await call("DELETE", `${this.#path}/${encodeURIComponent(name)}`);
          await this.read();
          done(this.#problems, t("devices.deleted", { name }));
        },
        { "aria-label": t("devices.delete-it", { name }) },
      ),
    );
  }

  /** Show the form of a category, or of a new one. */
  #edit(category = { name: "", provisioning: true, device_types: ["PHONE"] }) {
    const isNew = category.name === "";
    const name = input("name", { value: category.name, readonly: !isNew, maxlength: "100" });
    const provisioning = tick("provisioning", t("categories.for-provisioning"), category.provisioning);
    const types = DEVICE_TYPES.map((type) => tick("device_types", said("device-type", type), category.device_types.includes(type), type));
    const made = form(
      { class: "card", "aria-label": t(isNew ? "categories.make" : "categories.change") },
      [
        h("h3", {}, t(isNew ? "categories.make" : "categories.change")),
        field("category", t("devices.name"), name),
        provisioning,
        h("fieldset", { "data-field": "device_types" }, h("legend", {}, t("categories.types")), types, h("small", {}, t("categories.types-hint"))),
      ],
      t(isNew ? "categories.make" : "devices.save"),
      async (_, problems) => {
        const wanted = name.value.trim();
        const place = made.querySelector('[data-field="category"]');
        if (wanted === "") return refuse(place, t("devices.missing"));
        if (isNew && this.#names.includes(wanted)) return refuse(place, t("categories.there-already"));
        await this.#put(wanted, boxOf(provisioning).checked, types.map(boxOf).filter((box) => box.checked).map((box) => box.value));
        this.#edit();
        done(this.#problems, t("devices.saved", { name: wanted }));
        problems.replaceChildren();
      },
    );
    if (!isNew) made.querySelector(".actions").append(h("button", { type: "button", onclick: () => this.#edit() }, t("cancel")));
    fill(this.#edited, made);
    return made;
  }

  async #put(name, provisioning, deviceTypes) {
    await call("PUT", `${this.#path}/${encodeURIComponent(name)}`, {
      body: { provisioning, device_types: deviceTypes },
    });
    await this.read();
  }
}

function boxOf(label) {
  return label.querySelector("input");
}

/** Show the settings. */
export async function showSettings(place, site) {
  const known = await call("GET", site.path);
  place.append(settingsForm(site, known), passwordForm(site, known));
}

function settingsForm(site, known) {
  const url = input("devices_url", { value: known.devices_url, inputmode: "url" });
  const apps = h("textarea", { name: "phone_apps", rows: "3" });
  apps.value = known.phone_apps.join("\n");
  const mayAdd = tick("may_add_phones", t("settings.may-add"), known.may_add_phones);
  const granted = h("textarea", { name: "granted_domains", rows: "3" });
  granted.value = known.granted_domains.join("\n");
  const parts = [
    field("devices_url", t("settings.devices-url"), url, t("settings.devices-url-hint")),
    field("phone_apps", t("settings.apps"), apps, t("settings.one-a-line")),
    mayAdd,
    site.isPlatformAdmin && field("granted_domains", t("settings.granted"), granted, t("settings.granted-hint")),
  ];
  return form({ class: "card" }, parts, t("devices.save"), async (_, problems) => {
    const body = {
      devices_url: url.value.trim(),
      phone_apps: linesOf(apps),
      may_add_phones: boxOf(mayAdd).checked,
      ...(site.isPlatformAdmin ? { granted_domains: linesOf(granted) } : {}),
    };
    await call("PATCH", site.path, { body });
    done(problems, t("devices.saved", { name: site.domain }));
  });
}

function passwordForm(site, known) {
  const password = input("websocket_password", { type: "password", autocomplete: "new-password", maxlength: "100" });
  const standing = h("p", { class: "quiet" });
  const parts = [
    h("h3", {}, t("settings.password")),
    standing,
    field("websocket_password", t("settings.new-password"), password, t("settings.password-hint")),
  ];
  const set = async (value, problems, words) => {
    tell(await call("PATCH", site.path, { body: { websocket_password: value } }));
    password.value = "";
    done(problems, words);
  };
  const made = form({ class: "card" }, parts, t("settings.set-password"), async (_, problems) => {
    if (password.value === "") return void password.focus();
    await set(password.value, problems, t("settings.password-set"));
  });
  const problems = made.lastElementChild;
  const removing = doing(t("settings.remove-password"), problems, async () => {
    const sure = t("settings.remove-password-sure");
    if (!(await ask(t("settings.remove-password"), sure, t("settings.remove-password"), { isDangerous: true }))) return;
    await set("", problems, t("settings.password-removed"));
    password.focus();
  });
  const tell = ({ has_websocket_password: isThere }) => {
    standing.textContent = t(isThere ? "settings.has-password" : "settings.no-password");
    removing.hidden = !isThere;
  };
  made.querySelector(".actions").append(removing);
  tell(known);
  return made;
}

function linesOf(text) {
  return text.value.split("\n").map((line) => line.trim()).filter(Boolean);
}
