// The frame around the pages: who is signed in, which page shows, and what the connection is worth.
// It must not know what a page does.

import { announce, carriedOver, fill, h, loadTexts, showProblem, t, worded } from "./dom.js";
import {
  Problem,
  call,
  configuration,
  events,
  finishSignIn,
  isSignedIn,
  listen,
  signIn,
  signInBeside,
  signOut,
} from "./client.js";

// name → who may see it, and its module, which is loaded when it is first shown
const PAGES = {
  profile: { isFor: () => true, load: () => import("./profile.js") },
  rollouts: { isFor: ({ roles }) => roles.includes("users-admin"), load: () => import("./rollouts.js") },
  devices: {
    isFor: ({ roles }) => roles.includes("devices-admin") || roles.includes("platform-admin"),
    load: () => import("./devices.js"),
  },
  try: { isFor: () => false, isOpen: true, load: () => import("./try.js") },
};

let me = null;
let leave = null; // what ends the page that shows
let shown = null;
let turn = 0; // grows with each change of page, so that a slow one does not come after a quick one

const main = h("main", { id: "main", tabindex: "-1" });
const nav = h("nav", {});
const person = h("div", { class: "person" });
const banner = h("p", { class: "banner", role: "status", hidden: true });

function frame() {
  document.body.replaceChildren(
    h("a", { class: "skip", href: "#main", onclick: (event) => (event.preventDefault(), main.focus()) }, t("skip")),
    h("header", {}, h("a", { class: "brand", href: "#/" }, "Dialtone"), nav, person),
    main,
    banner,
  );
}

async function links() {
  const { is_sandbox: isSandbox } = await configuration();
  const names = Object.keys(PAGES).filter((name) => maySee(name) || (name === "try" && isSandbox));
  fill(
    nav,
    names.map((name) =>
      h("a", { href: `#/${name}`, "aria-current": name === shown ? "page" : null }, t(`page.${name}`)),
    ),
  );
  fill(
    person,
    me
      ? [h("span", { title: me.name }, me.name), h("button", { type: "button", onclick: leaveService }, t("sign-out"))]
      : h("button", { type: "button", class: "primary", onclick: signIn }, t("sign-in")),
  );
}

async function leaveService() {
  me = null;
  await signOut();
}

function maySee(name) {
  return me !== null && PAGES[name].isFor(me);
}

/** Show the page that the address names, or why it cannot be shown. */
async function route() {
  const [, name = "", ...rest] = location.hash.split("/");
  leave?.();
  leave = null;
  turn += 1;
  const mine = turn;
  // a question about what does not show any more is answered with no
  document.querySelectorAll("dialog[open]").forEach((dialog) => dialog.close());
  const page = PAGES[name];
  shown = page ? name : null;
  await links();
  const isOpen = page?.isOpen && (await configuration()).is_sandbox;
  if (mine !== turn) return;
  if (!page || !(isOpen || maySee(name))) {
    if (page && !me && !isOpen) return start(t("sign-in-first"));
    if (page) return start(t("not-for-you"));
    if (me) return location.replace("#/profile");
    return start();
  }
  document.title = `${t(`page.${name}`)} – Dialtone`;
  const place = h("div", { class: "page", "aria-busy": "true" });
  main.replaceChildren(place);
  try {
    const module = await page.load();
    const end = (await module.show(place, { me, rest })) ?? null;
    if (mine !== turn) return end?.();
    leave = end;
  } catch (error) {
    if (mine !== turn) return;
    if (error instanceof Problem) return showProblem(place, error);
    // the files of this version have gone with the next one
    showProblem(place, new Error(t("reload")));
    throw error;
  } finally {
    place.removeAttribute("aria-busy");
  }
  main.focus({ preventScroll: true });
  const done = carriedOver();
  if (done) place.querySelector("h2, h1").after(h("p", { class: "done" }, done));
  const [title] = document.title.split(" – ");
  announce(done ? `${done} ${title}` : title);
}

async function start(why = null) {
  const { is_sandbox: isSandbox } = await configuration();
  document.title = "Dialtone";
  main.replaceChildren(
    h(
      "div",
      { class: "page start" },
      h("h1", {}, t("start.title")),
      why && h("p", { class: "problem", role: "alert" }, why),
      h("p", {}, t("start.text")),
      isSandbox && h("p", {}, t("start.try-text")),
      h(
        "p",
        { class: "actions" },
        isSandbox && h("a", { class: "button primary", href: "#/try" }, t("start.try")),
        !me && h("button", { type: "button", class: isSandbox ? null : "primary", onclick: signIn }, t("sign-in")),
      ),
      h("p", {}, h("a", { href: "openapi.json" }, t("start.interface"))),
    ),
  );
}

// what is amiss, the worse first; whoever is signed out has to do something, the connection comes by itself
const amiss = { signedOut: null, disconnected: null };

function say(change) {
  Object.assign(amiss, change);
  const text = amiss.signedOut ?? amiss.disconnected;
  const signingIn = amiss.signedOut && h("button", { type: "button", onclick: signInBeside }, t("sign-in"));
  fill(banner, text, " ", signingIn);
  banner.hidden = !text;
}

events.addEventListener("disconnected", () => say({ disconnected: t("disconnected") }));
events.addEventListener("connected", () => say({ disconnected: null }));
events.addEventListener("signed-in", () => say({ signedOut: null }));
events.addEventListener("signed-out", ({ detail }) => say({ signedOut: detail ? worded(detail) : t("signed-out") }));

async function begin() {
  await loadTexts();
  frame();
  let why = null;
  try {
    await finishSignIn();
    if (isSignedIn()) {
      me = await call("GET", "/me");
      listen();
    }
  } catch (error) {
    why = worded(error);
  }
  globalThis.addEventListener("hashchange", route);
  if (why) {
    await links();
    await start(why);
  } else {
    await route();
  }
}

begin();
