// Devices: what administrators set up for a domain's phones, part by part.
// It must not know what a part does.

import { h, loading, showProblem, t, worded } from "./dom.js";
import { Problem, call } from "./client.js";
import { choice, field, form, input, showFaults } from "./devices_forms.js";

const PLATFORM = "platform";
const NO_DOMAIN = "-"; // in the address, where there is none yet
const MAX_CHOICE = 100;
const UNKNOWN_DOMAIN = "unknown domain"; // as the service says it

// name → its module, which is loaded when it is first shown, and what of it shows
const PARTS = {
  devices: async () => (await import("./devices_list.js")).show,
  jobs: async () => (await import("./jobs.js")).show,
  categories: async () => (await import("./domain.js")).showCategories,
  automatic: async () => (await import("./automatic.js")).show,
  settings: async () => (await import("./domain.js")).showSettings,
  pbx: async () => (await import("./pbx.js")).show,
  audit: async () => (await import("./audit.js")).show,
  platform: async () => (await import("./platform.js")).show,
};

/** Show the page; returns what ends it. */
export async function show(place, { me, rest }) {
  const isPlatformAdmin = me.roles.includes("platform-admin");
  place.append(h("h1", {}, t("page.devices")), loading());
  const known = await call("GET", "/domains", { query: { limit: MAX_CHOICE } });
  const names = known.items.map(({ domain }) => domain);
  const [asked = "", part = "devices", ...further] = rest.map(decoded);
  const domain = (asked !== NO_DOMAIN && asked) || names[0] || NO_DOMAIN;
  const site = {
    me,
    domain,
    isPlatformAdmin,
    rest: further.filter(Boolean),
    path: `/domains/${encodeURIComponent(domain)}`,
    to: (...parts) => hash(domain, ...parts),
  };
  const shown = h("section", { "aria-labelledby": "part" });
  place.replaceChildren(h("h1", {}, t("page.devices")), chooser(names, known.next, site, part) || "", partsOf(site, part), shown);
  const back = names.length > 0 && h("p", {}, h("a", { href: hash(names[0]) }, t("devices.back", { domain: names[0] })));
  if (!PARTS[part]) return refuse(shown, t("devices.no-part"));
  if (part === PLATFORM && !isPlatformAdmin) return refuse(shown, t("not-for-you"));
  if (part !== PLATFORM) {
    if (domain === NO_DOMAIN) return nothingYet(shown, site);
    if (!isPlatformAdmin && !names.includes(domain)) return refuse(shown, t("devices.not-yours", { domain }), back);
  }
  const title = t(site.rest.length > 0 ? "devices.device" : `devices.part-${part}`);
  document.title = `${title} – ${document.title}`;
  // all at once: what comes piece by piece moves what is being read
  const whole = h("div", { hidden: true });
  const busy = loading();
  shown.append(h("h2", { id: "part" }, title), busy, whole);
  try {
    const showPart = await PARTS[part]();
    return await showPart(whole, site);
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    if (error.message === UNKNOWN_DOMAIN) return refuse(shown, worded(error), back);
    const problems = h("div", {});
    whole.append(problems);
    showFaults(problems, error);
    return undefined;
  } finally {
    busy.remove();
    whole.hidden = false;
  }
}

/** Let the person choose among several domains: from a list, or by name where the list would be long. */
function chooser(names, isMore, site, part) {
  const there = site.domain !== NO_DOMAIN;
  if (names.length < 2 && (names.length === 0 || names[0] === site.domain)) {
    return there && h("p", { class: "quiet" }, t("devices.of", { domain: site.domain }));
  }
  const go = (domain) => (location.hash = hash(domain, part));
  if (isMore) {
    const named = input("domain", { value: site.domain });
    return form({ class: "row" }, [field("domain", t("devices.domain"), named)], t("devices.show"), () => go(named.value.trim()));
  }
  const all = names.includes(site.domain) ? names : [site.domain, ...names];
  const chosen = choice("domain", all.map((name) => [name, name]), site.domain, {
    onchange: () => go(chosen.value),
  });
  return field("domain", t("devices.domain"), chosen);
}

function partsOf(site, part) {
  const names = Object.keys(PARTS).filter((name) => name !== PLATFORM || site.isPlatformAdmin);
  return h(
    "nav",
    { class: "parts", "aria-label": t("page.devices") },
    names.map((name) =>
      h("a", { href: site.to(name), "aria-current": name === part ? "page" : null }, t(`devices.part-${name}`)),
    ),
  );
}

function refuse(place, words, back = null) {
  place.removeAttribute("aria-labelledby");
  showProblem(place, new Error(words));
  if (back) place.append(back);
}

function nothingYet(place, site) {
  const words = site.isPlatformAdmin
    ? h("p", {}, t("devices.no-domain"), " ", h("a", { href: site.to(PLATFORM) }, t("devices.make-domain")))
    : h("p", {}, t("devices.no-own-domain"));
  place.removeAttribute("aria-labelledby");
  place.append(words);
}

function hash(...parts) {
  return `#/devices/${parts.map(encodeURIComponent).join("/")}`;
}

function decoded(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part; // typed by hand, and no address of ours
  }
}
