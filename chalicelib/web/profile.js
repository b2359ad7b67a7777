// Profile: a person adds a phone, and sees the ones they have.

import { announce, ask, codeOf, fill, h, moment, once, said, showProblem, stateOf, t } from "./dom.js";
import { Problem, call, events, newKey } from "./client.js";

const SECOND_MS = 1000;

/** Show the page; returns what ends it. */
export async function show(place, { me }) {
  const problems = h("div", {});
  const adding = h("section", { "aria-labelledby": "add" });
  const phones = h("section", { "aria-labelledby": "phones" });
  const page = new Profile(me, problems, adding, phones);
  await page.read();
  // all at once: what comes piece by piece moves what is being read
  place.append(h("h1", {}, t("page.profile")), problems, adding, phones);
  return page.follow();
}

class Profile {
  #me;
  #problems;
  #adding;
  #phones;
  #categories = [];
  #code = null; // the code on the page, with its digits, which only this page knows
  #listed = [];

  constructor(me, problems, adding, phones) {
    this.#me = me;
    this.#problems = problems;
    this.#adding = adding;
    this.#phones = phones;
  }

  async read() {
    const [categories, phones] = await Promise.all([
      this.#me.may_add_phones ? call("GET", "/me/categories") : { items: [] },
      call("GET", "/me/phones", { query: { limit: 100 } }),
    ]);
    this.#categories = categories.items;
    this.#listed = phones.items;
    this.#draw();
  }

  /** Follow what is heard, and the clock; returns what ends it. */
  follow() {
    const heard = ({ detail }) => {
      if (detail.mt === "CodeChanged") this.#codeChanged(detail.code);
      if (detail.mt === "PhoneChanged") this.#phoneChanged(detail.hw_id, detail.phone);
    };
    const again = () => this.#readAgain();
    events.addEventListener("heard", heard);
    events.addEventListener("connected", again);
    const clock = setInterval(() => this.#tick(), SECOND_MS);
    return () => {
      events.removeEventListener("heard", heard);
      events.removeEventListener("connected", again);
      clearInterval(clock);
    };
  }

  async #readAgain() {
    try {
      if (this.#code) {
        const code = await call("GET", `/me/codes/${this.#code.code_id}`);
        this.#codeChanged(code);
      }
      const phones = await call("GET", "/me/phones", { query: { limit: 100 } });
      this.#listed = phones.items;
      this.#drawPhones();
    } catch (error) {
      this.#fail(error);
    }
  }

  #fail(error, form = null) {
    if (!(error instanceof Problem)) throw error;
    showProblem(this.#problems, error, form);
  }

  #codeChanged(code) {
    if (code.code_id !== this.#code?.code_id) return;
    this.#code = { ...this.#code, ...code };
    if (code.state === "redeemed") announce(t("profile.redeemed"));
    this.#drawAdding();
  }

  #phoneChanged(hwId, phone) {
    const place = this.#listed.findIndex((known) => known.hw_id === hwId);
    if (phone && place >= 0) this.#listed[place] = phone;
    else if (phone) this.#listed.push(phone);
    else if (place >= 0) this.#listed.splice(place, 1);
    this.#drawPhones();
  }

  #draw() {
    this.#drawAdding();
    this.#drawPhones();
  }

  #drawAdding() {
    fill(this.#adding, h("h2", { id: "add" }, t("profile.add")), this.#code ? this.#card() : this.#form());
    this.#tick();
  }

  #form() {
    if (!this.#me.may_add_phones) return h("p", {}, t("profile.may-not-add"));
    if (this.#categories.length === 0) return h("p", {}, t("profile.no-category"));
    const form = h(
      "form",
      { class: "row", onsubmit: (event) => (event.preventDefault(), this.#issue(form)) },
      h(
        "label",
        {},
        h("span", {}, t("profile.category")),
        h(
          "select",
          { name: "category" },
          this.#categories.map(({ name }, at) => h("option", { value: name, selected: at === 0 }, name)),
        ),
      ),
      h("button", { class: "primary" }, t("profile.get-code")),
    );
    return form;
  }

  async #issue(form) {
    const button = form.querySelector("button");
    await once(button, async () => {
      this.#problems.replaceChildren();
      try {
        const body = { category: form.elements.category.value };
        const issued = await call("POST", "/me/codes", { body, key: newKey() });
        this.#code = { ...issued, state: "pending" };
        this.#drawAdding();
        announce(t("profile.code-is-there"));
      } catch (error) {
        this.#fail(error, form);
      }
    });
  }

  #card() {
    const code = this.#code;
    const state = stateAt(code);
    const another = h("button", { type: "button", onclick: () => this.#another() }, t("profile.another"));
    if (state === "redeemed") {
      const device = code.device;
      return h(
        "div",
        { class: "card good" },
        h("p", { class: "large" }, t("profile.redeemed")),
        device && h("p", {}, `${device.product} ${hwIdOf(device.hw_id)}`),
        code.reason && reasonOf(code.reason),
        h("p", { class: "actions" }, another),
      );
    }
    if (state !== "pending") {
      return h("div", { class: "card" }, h("p", { class: "large" }, t(`profile.${state}`)), h("p", { class: "actions" }, another));
    }
    const copied = h("button", { type: "button", onclick: () => this.#copy(copied) }, t("copy"));
    const dropped = h("button", { type: "button", onclick: () => this.#revoke(dropped) }, t("profile.drop"));
    return h(
      "div",
      { class: "card" },
      h("p", { class: "large" }, codeOf(code.code)),
      h("p", {}, t("profile.valid"), " ", h("span", { class: "countdown", role: "timer" })),
      code.reason && reasonOf(code.reason),
      h("ol", {}, ["connect", "type", "confirm"].map((step) => h("li", {}, t(`profile.step-${step}`)))),
      h("p", { class: "actions" }, copied, dropped),
    );
  }

  async #copy(button) {
    await navigator.clipboard.writeText(this.#code.code);
    button.textContent = t("copied");
    announce(t("copied"));
  }

  async #revoke(button) {
    await once(button, async () => {
      try {
        await call("DELETE", `/me/codes/${this.#code.code_id}`);
        this.#another();
      } catch (error) {
        this.#fail(error);
      }
    });
  }

  #another() {
    this.#code = null;
    this.#problems.replaceChildren();
    this.#drawAdding();
    this.#adding.querySelector("select, button")?.focus();
  }

  /** Write the time that is left, and let a code that has ended look so. */
  #tick() {
    const place = this.#adding.querySelector(".countdown");
    if (!place) return;
    if (stateAt(this.#code) !== "pending") return this.#drawAdding();
    const left = Math.ceil((new Date(this.#code.expires_at) - Date.now()) / SECOND_MS);
    const text = `${Math.floor(left / 60)}:${String(left % 60).padStart(2, "0")}`;
    if (place.textContent !== text) place.textContent = text;
  }

  #drawPhones() {
    const rows = this.#listed.map((phone) => this.#row(phone));
    fill(
      this.#phones,
      h("h2", { id: "phones" }, t("profile.phones")),
      rows.length === 0
        ? h("p", {}, t("profile.no-phone"))
        : h(
            "table",
            {},
            h("thead", {}, h("tr", {}, ["phone", "state", "seen", "action"].map((name) => h("th", { scope: "col" }, t(`profile.column-${name}`))))),
            h("tbody", {}, rows),
          ),
    );
  }

  #row(phone) {
    const name = phone.name || phone.product || t("profile.nameless");
    const remove = h(
      "button",
      { type: "button", "aria-label": t("profile.remove-it", { name }), onclick: () => this.#remove(remove, phone, name) },
      t("profile.remove"),
    );
    return h(
      "tr",
      { "data-hw-id": phone.hw_id },
      h("th", { scope: "row" }, name, h("small", {}, `${phone.product} ${hwIdOf(phone.hw_id)}`)),
      h("td", {}, stateOf(phone.stuck_since ? "stuck" : phone.state)),
      h("td", {}, moment(phone.last_seen_at)),
      h("td", {}, remove),
    );
  }

  async #remove(button, phone, name) {
    if (!(await ask(t("profile.remove"), t("profile.remove-sure", { name }), t("profile.remove"), { isDangerous: true }))) return;
    await once(button, async () => {
      try {
        await call("DELETE", `/me/phones/${phone.hw_id}`);
        this.#phoneChanged(phone.hw_id, null);
        announce(t("profile.removed", { name }));
      } catch (error) {
        this.#fail(error);
      }
    });
  }
}

function stateAt(code) {
  return code.state === "pending" && new Date(code.expires_at) <= new Date() ? "expired" : code.state;
}

function hwIdOf(hwId) {
  return hwId.match(/../g).join("-");
}

function reasonOf(reason) {
  return h("p", { class: "warning" }, said("reason", reason));
}
