// What the platform's administrators set up: domains, foreign installations, and which phones were seen.
// It must not show an installation's key a second time: the service does not know it any more.

import { ask, h, hwIdOf, locale, moment, t } from "./dom.js";
import { call } from "./client.js";
import { Listing, attempt, copied, doing, done, field, form, input, make, whenBack } from "./devices_forms.js";

const LIMIT = 50;

/** Show the part; returns what ends it. */
export async function show(place, site) {
  const sections = [domains(site), installations(), sightings()];
  place.append(...sections.flatMap(({ elements }) => elements));
  const [risk] = await Promise.all([call("GET", "/guess-risk"), ...sections.map(({ listing }) => listing.begin())]);
  place.append(h("h3", {}, t("platform.risk")), h("p", {}, riskOf(risk)));
  return whenBack(() => sections.forEach(({ listing, problems }) => attempt(problems, () => listing.read())));
}

function domains(site) {
  const problems = h("div", {});
  const listed = h("div", {});
  const listing = new Listing(listed, {
    label: t("platform.domains"),
    empty: t("devices.no-domain"),
    columns: [
      [t("devices.domain"), ({ domain }) => h("a", { href: `#/devices/${encodeURIComponent(domain)}/settings` }, domain)],
      [t("settings.devices-url"), (known) => known.devices_url || "–"],
      [t("devices.action"), ({ domain }) => deleting(problems, listing, domain, `/domains/${encodeURIComponent(domain)}`, "platform.delete-domain")],
    ],
    read: (cursor) => call("GET", "/domains", { query: { limit: LIMIT, cursor } }),
  });
  const name = input("domain", { maxlength: "253" });
  const making = form({ class: "card" }, [field("domain", t("platform.new-domain"), name, t("platform.new-domain-hint"))], t("platform.make-domain"), async (_, told) => {
    const { domain } = await make("/domains", { domain: name.value.trim() });
    name.value = "";
    await listing.begin();
    done(told, t("devices.saved", { name: domain }));
    const link = `#/devices/${encodeURIComponent(domain)}/categories`;
    told.append(h("p", {}, h("a", { href: link }, t("platform.go-on", { name: domain }))));
  });
  return { elements: [h("h3", {}, t("platform.domains")), problems, listed, making], listing, problems };
}

function installations() {
  const problems = h("div", {});
  const listed = h("div", {});
  const listing = new Listing(listed, {
    label: t("platform.installations"),
    empty: t("platform.no-installation"),
    columns: [
      [t("devices.name"), ({ name, installation_id: id }) => h("span", {}, name, h("small", {}, id))],
      [t("devices.made"), (known) => h("span", {}, moment(known.created_at), h("small", {}, known.created_by))],
      [t("devices.action"), ({ name, installation_id: id }) => deleting(problems, listing, name, `/installations/${id}`, "platform.delete-installation")],
    ],
    read: (cursor) => call("GET", "/installations", { query: { limit: LIMIT, cursor } }),
  });
  const name = input("name", { maxlength: "100" });
  const making = form({ class: "card" }, [field("name", t("platform.new-installation"), name, t("platform.new-installation-hint"))], t("platform.make-installation"), async (_, told) => {
    const made = await make("/installations", { name: name.value.trim() });
    name.value = "";
    await listing.begin();
    done(told, t("platform.key-once"));
    told.append(copied(t("platform.key", { name: made.name }), made.key));
  });
  return { elements: [h("h3", {}, t("platform.installations")), problems, listed, making], listing, problems };
}

function sightings() {
  const problems = h("div", {});
  const listed = h("div", {});
  const day = input("day", { type: "date", value: new Date().toISOString().slice(0, 10) });
  const listing = new Listing(listed, {
    label: t("platform.sightings"),
    empty: t("platform.no-sighting"),
    columns: [
      [t("devices.device"), (seen) => h("span", {}, hwIdOf(seen.hw_id), h("small", {}, `${seen.product} ${seen.version}`))],
      [t("devices.running"), (seen) => t("devices.builds", { prot: seen.prot || "–", boot: seen.boot || "–" })],
      [t("platform.first-seen"), (seen) => moment(seen.first_seen_at)],
      [t("devices.seen"), (seen) => moment(seen.last_seen_at)],
      [t("devices.address"), (seen) => h("span", {}, seen.local_ip || "–", h("small", {}, seen.source))],
    ],
    read: (cursor) => call("GET", "/sightings", { query: { day: day.value, limit: LIMIT, cursor } }),
  });
  day.addEventListener("change", () => attempt(problems, () => listing.begin()));
  const asked = h("div", { class: "row" }, field("day", t("platform.day"), day));
  return { elements: [h("h3", {}, t("platform.sightings")), asked, problems, listed], listing, problems };
}

function riskOf({ open_codes: count, sources, chance }) {
  const percent = new Intl.NumberFormat(locale, { style: "percent", maximumSignificantDigits: 2 }).format(chance);
  return t("platform.risk-is", { count, sources, percent });
}

function deleting(problems, listing, name, path, words) {
  return doing(
    t("devices.delete"),
    problems,
    async () => {
      if (!(await ask(t("devices.delete"), t(`${words}-sure`, { name }), t("devices.delete"), { isDangerous: true }))) return;
      await call("DELETE", path);
      await listing.begin();
      done(problems, t("devices.deleted", { name }));
    },
    { "aria-label": t("devices.delete-it", { name }) },
  );
}
