// Profile: a person adds a phone, and sees the ones they have.

import { announce, ask, codeOf, fill, h, hwIdOf, loading, moment, once, said, showProblem, stateOf, t } from "./dom.js";
import { Problem, call, events, newKey } from "./client.js";
import { pbxOf } from "./pbx_words.js";

const SECOND_MS = 1000;
const MAX_CODES = 20;
const NOT_FOUND = 404;

/** Show the page; returns what ends it. */
export async function show(place, { me }) {
  const problems = h("div", {});
  const adding = h("section", { "aria-labelledby": "add" });
  const phones = h("section", { "aria-labelledby": "phones" });
  const codes = h("section", { "aria-labelledby": "codes" });
  const page = new Profile(me, problems, adding, phones, codes);
  place.append(loading());
  await page.read();
  // all at once: what comes piece by piece moves what is being read
  place.replaceChildren(h("h1", {}, t("page.profile")), problems, adding, phones, codes);
  return page.follow();
}

class Profile {
  #me;
  #problems;
  #adding;
  #phones;
  #codes;
  #categories = [];
  #code = null; // the code on the page, with its digits, which only this page knows
  #listed = [];
  #issued = []; // one's newest codes, without digits

  constructor(me, problems, adding, phones, codes) {
    this.#me = me;
    this.#problems = problems;
    this.#adding = adding;
    this.#phones = phones;
    this.#codes = codes;
  }

  async read() {
    const [categories] = await Promise.all([
      this.#me.may_add_phones ? call("GET", "/me/categories") : { items: [] },
      this.#readLists(),
    ]);
    this.#categories = categories.items;
    this.#drawAdding();
    this.#drawPhones();
    this.#drawCodes();
  }

  async #readLists() {
    const [phones, codes] = await Promise.all([
      call("GET", "/me/phones", { query: { limit: 100 } }),
      call("GET", "/me/codes", { query: { limit: MAX_CODES } }),
    ]);
    this.#listed = phones.items;
    this.#issued = codes.items;
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
      if (this.#code) this.#codeChanged(await this.#readCode(this.#code));
      await this.#readLists();
      this.#problems.replaceChildren();
      this.#drawPhones();
      this.#drawCodes();
    } catch (error) {
      this.#fail(error);
    }
  }

  /** Read a code again; one that is long gone is as good as revoked. */
  async #readCode(code) {
    try {
      return await call("GET", `/me/codes/${code.code_id}`);
    } catch (error) {
      if (error.status !== NOT_FOUND) throw error;
      return { ...code, state: "revoked" };
    }
  }

  #fail(error, form = null) {
    if (!(error instanceof Problem)) throw error;
    showProblem(this.#problems, error, form);
  }

  #codeChanged(code) {
    const place = this.#issued.findIndex((known) => known.code_id === code.code_id);
    if (place >= 0) this.#issued[place] = code;
    else this.#issued.unshift(code);
    this.#drawCodes();
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

  #drawAdding() {
    const height = this.#adding.querySelector(".card")?.offsetHeight;
    fill(this.#adding, h("h2", { id: "add" }, t("profile.add")), this.#code ? this.#card() : this.#form());
    // what stands below stays where it is when news come
    const card = this.#adding.querySelector(".card");
    if (card && height) card.style.minHeight = `${height}px`;
    this.#writeTime();
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
        this.#drawCodes();
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
        if (error.status === NOT_FOUND) return this.#another();
        this.#fail(error);
      }
    });
  }

  #another() {
    this.#code = null;
    this.#problems.replaceChildren();
    this.#drawAdding();
    this.#drawCodes();
    this.#adding.querySelector("select, button")?.focus();
  }

  #tick() {
    this.#writeTime();
    if (this.#codes.querySelectorAll("tbody tr").length !== this.#otherCodes().length) this.#drawCodes();
  }

  /** Write the time that is left, and let a code that has ended look so. */
  #writeTime() {
    const place = this.#adding.querySelector(".countdown");
    if (!place) return;
    if (stateAt(this.#code) !== "pending") {
      announce(t(`profile.${stateAt(this.#code)}`));
      return this.#drawAdding();
    }
    const left = Math.ceil((new Date(this.#code.expires_at) - Date.now()) / SECOND_MS);
    const text = `${Math.floor(left / 60)}:${String(left % 60).padStart(2, "0")}`;
    if (place.textContent !== text) place.textContent = text;
  }

  /** Find the codes that still count, or of which there is something to tell; not the one that shows above. */
  #otherCodes() {
    return this.#issued.filter((code) => code.code_id !== this.#code?.code_id && (code.reason || stateAt(code) === "pending"));
  }

  #drawCodes() {
    const codes = this.#otherCodes();
    this.#codes.hidden = codes.length === 0;
    fill(
      this.#codes,
      h("h2", { id: "codes" }, t("profile.codes")),
      h("p", { class: "quiet" }, t("profile.codes-about")),
      h(
        "table",
        {},
        h("thead", {}, h("tr", {}, ["code", "state", "until", "action"].map((name) => h("th", { scope: "col" }, t(`profile.column-${name}`))))),
        h("tbody", {}, codes.map((code) => this.#codeRow(code))),
      ),
    );
  }

  #codeRow(code) {
    const state = stateAt(code);
    const until = moment(code.expires_at);
    const revoke = h(
      "button",
      { type: "button", "aria-label": t("profile.drop-it", { name: `${code.category}, ${until.textContent}` }), onclick: () => this.#revokeOther(revoke, code) },
      t("profile.drop"),
    );
    return h(
      "tr",
      { "data-code-id": code.code_id },
      h("th", { scope: "row" }, code.category),
      h("td", {}, stateOf(state), code.reason && h("small", { class: "warning" }, said("reason", code.reason))),
      h("td", { "data-label": t("profile.column-until") }, until),
      h("td", {}, state === "pending" && revoke),
    );
  }

  async #revokeOther(button, code) {
    await once(button, async () => {
      try {
        await call("DELETE", `/me/codes/${code.code_id}`);
        this.#codeChanged({ ...code, state: "revoked" });
        announce(t("profile.revoked"));
      } catch (error) {
        this.#fail(error);
      }
    });
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
      h("td", {}, stateOf(phone.stuck_since ? "stuck" : phone.state), pbxOf(phone.pbx, { isOwn: true })),
      h("td", { "data-label": t("profile.column-seen") }, moment(phone.last_seen_at)),
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

function reasonOf(reason) {
  return h("p", { class: "warning" }, said("reason", reason));
}
