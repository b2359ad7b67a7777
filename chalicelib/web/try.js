// Try it: a phone on a page, which asks this deployment as one on a desk would.

import { fill, h, t } from "./dom.js";
import { MASK, redact } from "./redact.js";
import { UpdateClient } from "./update_client.js";

const PRODUCTS = ["IP222", "IP232", "IP112"];
const KEYS = ["1", "2", "3", "4", "5", "6", "7", "8", "9", "*", "0", "#"];
const DIGITS = 12;
const KEPT = "phone";
const LOCAL_IP = "192.0.2.10"; // of a range that is nobody's
const WORK_MS = 800;
const IDLE_MS = 30_000;
const TIMEOUT_MS = 10_000;
const PROGRESS_MS = 1200;
const RESTART_MS = 900;
const MAX_BUSY_POLLS = 10;
const MAX_LINES = 300;

/** Show the page; returns what ends it. */
export async function show(place) {
  const page = new Try();
  place.append(
    h("h1", {}, t("page.try")),
    h(
      "p",
      {},
      t("try.first"),
      " ",
      h("a", { href: "#/profile", target: "_blank" }, t("try.profile")),
      " ",
      t("try.then"),
    ),
    h("div", { class: "try" }, page.phone, page.inside),
  );
  page.start();
  return () => page.end();
}

class Try {
  #client;
  #entered = null; // what was typed and has not been sent
  #isSent = false; // a code was sent, and whether it was good is open
  #isBusy = false;
  #again = false;
  #isOver = false;
  #timer = null;
  #stop = new AbortController();
  #waiting = new Set(); // what an end of the page must not leave pending
  #busyPolls = 0;
  #quietPolls = 0;

  #message = h("p", { role: "status", id: "said" });
  #bar = h("progress", { max: "100", "aria-label": t("try.progress"), hidden: true });
  #field = h("input", {
    id: "code",
    class: "code",
    inputmode: "numeric",
    autocomplete: "off",
    placeholder: "____ ____ ____",
    "aria-describedby": "said",
    oninput: () => this.#typed(),
  });
  #form = h(
    "form",
    { hidden: true, id: "code-form", onsubmit: (event) => (event.preventDefault(), this.#confirm()) },
    h("label", { for: "code" }, t("try.code")),
    this.#field,
  );
  #display = h("div", { class: "display", tabindex: "-1" }, this.#message, this.#bar, this.#form);
  #product = h("select", { name: "product" }, PRODUCTS.map((name) => h("option", { value: name }, name)));
  #facts = h("dl", {});
  #log = h("ol", { class: "log", tabindex: "0", "aria-labelledby": "script" });

  constructor() {
    this.phone = h(
      "section",
      { class: "handset", "aria-label": t("try.phone"), onkeydown: (event) => this.#key(event) },
      this.#display,
      h(
        "div",
        { class: "keypad", role: "group", "aria-label": t("try.keypad") },
        KEYS.map((sign) => h("button", { type: "button", "aria-label": nameOf(sign), onclick: () => this.#press(sign) }, sign)),
        h("button", { type: "button", "aria-label": t("try.correct"), onclick: () => this.#correct() }, "C"),
        h("button", { type: "button", class: "primary ok", onclick: () => this.#confirm() }, "OK"),
      ),
      h(
        "form",
        { class: "row", onsubmit: (event) => (event.preventDefault(), this.#reset()) },
        h("label", {}, h("span", {}, t("try.product")), this.#product),
        h("button", {}, t("try.reset")),
        h("p", { class: "hint" }, t("try.reset-hint")),
      ),
    );
    this.inside = h(
      "section",
      { class: "inside", "aria-label": t("try.inside") },
      h(
        "div",
        { class: "row" },
        h("h2", { id: "script" }, t("try.script")),
        h("button", { type: "button", onclick: () => this.#soon() }, t("try.poll")),
      ),
      this.#log,
      h("h2", {}, t("try.runs")),
      this.#facts, // below all else, for it grows
    );
  }

  /** Switch the phone on: the one this tab has, or one from its box. */
  start() {
    const kept = JSON.parse(sessionStorage.getItem(KEPT) ?? "null");
    this.#take(kept ? UpdateClient.started(kept, LOCAL_IP, factoryUrl()) : fromTheBox(PRODUCTS[1]));
  }

  /** Switch it off; what it has written it keeps. */
  end() {
    this.#isOver = true;
    clearTimeout(this.#timer);
    this.#stop.abort();
    for (const wake of this.#waiting) wake();
  }

  #take(client) {
    this.#client = client;
    this.#product.value = client.product;
    this.#entered = null;
    this.#isSent = client.hasCode;
    this.#busyPolls = this.#quietPolls = 0;
    this.#field.value = "";
    this.#log.replaceChildren();
    this.#keep();
    this.#draw();
    this.#say("try.boots");
    this.#soon();
  }

  /** A factory reset: what it had been is forgotten, and it has another MAC. */
  #reset() {
    this.#stop.abort();
    this.#stop = new AbortController();
    this.#take(fromTheBox(this.#product.value));
  }

  #keep() {
    sessionStorage.setItem(KEPT, JSON.stringify(this.#client.kept()));
  }

  // Typing.

  get #asks() {
    return !this.#form.hidden;
  }

  /** Take keys wherever the focus is on the phone; where something can be typed they go by themselves. */
  #key(event) {
    if (event.ctrlKey || event.altKey || event.metaKey || event.target.closest("input, select")) return;
    if (KEYS.includes(event.key)) this.#press(event.key);
    else if (event.key === "Backspace") this.#correct();
    else if (event.key === "Enter" && event.target === this.#display) this.#confirm();
    else return;
    event.preventDefault();
  }

  #press(sign) {
    if (!this.#asks) return;
    if (sign === "#") return this.#confirm();
    if (sign === "*") return;
    this.#field.value += sign;
    this.#typed();
  }

  #correct() {
    if (!this.#asks) return;
    this.#field.value = digitsOf(this.#field.value).slice(0, -1);
    this.#typed();
  }

  /** Write what was typed in groups; `#` confirms it, here as well. */
  #typed() {
    const { value, selectionStart } = this.#field;
    const isAtEnd = selectionStart === value.length || document.activeElement !== this.#field;
    const grouped = digitsOf(value).slice(0, DIGITS).replace(/(\d{4})(?=\d)/g, "$1 ");
    if (grouped !== value) {
      this.#field.value = grouped;
      if (!isAtEnd) this.#field.setSelectionRange(selectionStart, selectionStart);
    }
    this.#field.removeAttribute("aria-invalid");
    if (value.endsWith("#")) this.#confirm();
  }

  #confirm() {
    if (!this.#asks) return;
    const digits = digitsOf(this.#field.value);
    if (digits.length !== DIGITS) {
      this.#field.setAttribute("aria-invalid", "true");
      return this.#say("try.short", { count: digits.length });
    }
    this.#entered = digits;
    this.#ask(false);
    this.#say("try.sent");
    this.#soon();
  }

  /** Show the code form or take it away; the focus goes along with it. */
  #ask(isAsked) {
    if (isAsked === this.#asks) return;
    const isHere = [null, document.body, this.#display, this.#field].includes(document.activeElement);
    this.#form.hidden = !isAsked;
    this.#field.value = "";
    if (isAsked && (isHere || document.activeElement.id === "main")) this.#field.focus();
    else if (isHere) this.#display.focus();
  }

  // Polling.

  /** Ask at once, or as soon as what is under way has ended. */
  #soon() {
    clearTimeout(this.#timer);
    this.#timer = null;
    this.#again = this.#isBusy;
    if (!this.#isBusy) this.#poll();
  }

  async #poll() {
    const client = this.#client;
    this.#isBusy = true;
    const pause = await this.#turn(client);
    this.#isBusy = false;
    if (this.#isOver) return;
    if (this.#again || client !== this.#client) this.#soon();
    else this.#timer = setTimeout(() => this.#soon(), pause);
  }

  /** Ask once and obey; tells how long to wait before the next time. */
  async #turn(client) {
    if (this.#entered !== null) {
      client.typeCode(this.#entered);
      this.#entered = null;
      this.#isSent = true;
      this.#keep();
    }
    const url = client.url();
    this.#note(`→ GET ${redact(url)}`, "asked");
    const origin = originOf(url);
    if (origin !== location.origin) {
      this.#say("try.elsewhere", { origin });
      return IDLE_MS;
    }
    const script = await this.#fetch(url);
    // switched off or reset meanwhile: the answer is for a phone that is no more
    if (this.#isOver || client !== this.#client) return 0;
    if (script === null) return this.#patience("try.no-answer");
    const before = client.running;
    const restarts = client.restartCount;
    const steps = client.execute(script, new Date().getHours());
    this.#keep();
    for (const step of steps) {
      const did = step.effect && redact(t(`effect.${step.name}`, step.values));
      this.#note(redact(step.line), step.name, did);
    }
    await this.#perform(client, before, client.restartCount > restarts);
    if (this.#isOver || client !== this.#client) return 0;
    this.#draw();
    return this.#conclude(client, steps);
  }

  /** Tell what the display says now, and how long to wait. */
  #conclude(client, steps) {
    const hasDone = steps.some((step) => step.effect);
    if (client.showsCodeForm) {
      if (this.#entered !== null) return 0;
      const isRefused = this.#isSent;
      this.#isSent = false;
      this.#busyPolls = this.#quietPolls = 0;
      if (this.#asks) return IDLE_MS;
      this.#ask(true);
      this.#say(isRefused ? "try.refused" : "try.asks");
      return IDLE_MS;
    }
    this.#ask(false);
    if (!client.hasCode) this.#isSent = false;
    if (client.isOwn && !hasDone) {
      this.#busyPolls = this.#quietPolls = 0;
      this.#say("try.registered");
      return IDLE_MS;
    }
    const sysclient = client.active.get("SYSCLIENT")?.get("");
    if (sysclient && !client.isOwn) {
      this.#say("try.sysclient", { origin: originOf(sysclient) });
      return IDLE_MS;
    }
    if (!hasDone) return this.#patience("try.later");
    this.#say("try.works");
    this.#busyPolls += 1;
    return this.#busyPolls > MAX_BUSY_POLLS ? IDLE_MS : WORK_MS;
  }

  #patience(text) {
    if (!this.#asks) this.#say(text);
    this.#quietPolls += 1;
    return Math.min(WORK_MS * 2 ** this.#quietPolls, IDLE_MS);
  }

  async #fetch(url) {
    try {
      const answer = await fetch(url, {
        cache: "no-store",
        credentials: "omit",
        signal: AbortSignal.any([this.#stop.signal, AbortSignal.timeout(TIMEOUT_MS)]),
      });
      this.#note(`← ${answer.status}`, "answered");
      return answer.ok ? await answer.text() : null;
    } catch {
      return null;
    }
  }

  /** Show what takes its time on a desk: loading firmware, and a restart. */
  async #perform(client, before, hasRestarted) {
    for (const kind of ["boot", "prot"]) {
      if (client.running[kind] === before[kind]) continue;
      this.#ask(false);
      this.#say(`try.loads-${kind}`, { build: client.running[kind] });
      await this.#progress(PROGRESS_MS);
    }
    if (!hasRestarted) return;
    this.#ask(false);
    this.#say("try.restarts");
    await this.#progress(RESTART_MS);
  }

  /** Fill the bar, step by step; at once for whoever wants nothing to move. */
  async #progress(duration) {
    if (!matchMedia("(prefers-reduced-motion: no-preference)").matches) return;
    this.#bar.hidden = false;
    for (let part = 0; part <= 100 && !this.#isOver; part += 10) {
      this.#bar.value = part;
      await new Promise((wake) => {
        this.#waiting.add(wake);
        setTimeout(() => (this.#waiting.delete(wake), wake()), duration / 10);
      });
    }
    this.#bar.hidden = true;
  }

  // Showing.

  #say(key, values = {}) {
    const text = t(key, values);
    this.#display.dataset.says = key;
    if (this.#message.textContent !== text) this.#message.textContent = text;
  }

  #note(text, kind, did = "") {
    const isAtEnd = this.#log.scrollHeight - this.#log.scrollTop - this.#log.clientHeight < 40;
    this.#log.append(h("li", { "data-kind": kind }, h("code", {}, text), did && h("span", {}, did)));
    while (this.#log.childElementCount > MAX_LINES) this.#log.firstChild.remove();
    if (isAtEnd) this.#log.scrollTop = this.#log.scrollHeight;
  }

  #draw() {
    const { mac, product, running, active, faults } = this.#client;
    const facts = [
      ["phone", `${product} ${mac}`],
      ["prot", running.prot],
      ["boot", running.boot],
      ...[...active].map(([module, options]) => [module, [...options].map(([name, value]) => shown(name, value)).join(" ")]),
      ...[...new Set(faults)].map((line) => ["not-understood", redact(line)]),
    ];
    fill(
      this.#facts,
      facts.map(([name, value], at) =>
        h("div", {}, h("dt", {}, at < 3 || name === "not-understood" ? t(`try.fact-${name}`) : h("code", {}, name)), h("dd", {}, value)),
      ),
    );
  }
}

function nameOf(sign) {
  return { "*": t("try.star"), "#": t("try.hash") }[sign] ?? null;
}

function digitsOf(text) {
  return text.replace(/[０-９]/g, (digit) => String(digit.charCodeAt(0) - 0xff10)).replace(/\D/g, "");
}

function factoryUrl() {
  return new URL("init", document.baseURI).href;
}

function fromTheBox(product) {
  const serial = [...crypto.getRandomValues(new Uint8Array(3))].map((byte) => byte.toString(16).padStart(2, "0"));
  return new UpdateClient(["00", "90", "33", ...serial].join("-"), product, LOCAL_IP, factoryUrl());
}

/** Tell where a URL leads; what is none comes back as it is, without its query. */
function originOf(url) {
  return URL.canParse(url) ? new URL(url).origin : redact(url.split("?")[0]);
}

/** Write an option in force; a password is none of the page's business, however it looks. */
function shown(name, value) {
  if (name === "/pwd") return `${name} ${MASK}`;
  if (name === "/user") return `${name} ${value.split(",")[0]},${MASK}`;
  return `${name} ${redact(value)}`.trim();
}
