// The devices of a domain: found by category, state and MAC.
// It must not change any of them (device.js).

import { fill, h, hwIdOf, moment, stateOf, t } from "./dom.js";
import { call } from "./client.js";
import { Listing, attempt, choice, doing, field, form, hwIdIn, input, refuse, whenBack, whenHeard } from "./devices_forms.js";
import { showDevice } from "./device.js";
import { pbxOf } from "./pbx_words.js";

const STATES = ["registered", "updating", "current"];
const LIMIT = 50;

/** Show the list, or the device that the address names; returns what ends it. */
export async function show(place, site) {
  const [hwId] = site.rest;
  return hwId ? showDevice(place, site, hwId) : showList(place, site);
}

async function showList(place, site) {
  const { items: categories } = await call("GET", `${site.path}/categories`);
  if (categories.length === 0) {
    const link = h("a", { href: site.to("categories") }, t("devices.make-category"));
    place.append(h("p", { class: "card" }, t("devices.empty-domain"), " ", link));
  }
  const listed = h("div", {});
  const problems = h("div", {});
  const category = choice("category", [["", t("devices.every-category")], ...categories.map(({ name }) => [name, name])]);
  const state = choice("state", [["", t("devices.every-state")], ...STATES.map((name) => [name, t(`state.${name}`)])]);
  const listing = new Listing(listed, {
    label: t("devices.part-devices"),
    empty: t("devices.no-device"),
    columns: [
      [t("devices.device"), (device) => nameOf(device, site)],
      [t("devices.category"), (device) => device.category],
      [t("devices.user"), (device) => device.user || "–"],
      [t("devices.state"), (device) => h("span", { "data-hw-id": device.hw_id }, standingOf(device))],
      [t("devices.seen"), (device) => moment(device.last_seen_at)],
    ],
    read: (cursor) =>
      call("GET", `${site.path}/devices`, {
        query: { category: category.value, state: state.value, limit: LIMIT, cursor },
      }),
  });
  const again = () => attempt(problems, () => listing.begin());
  category.addEventListener("change", again);
  state.addEventListener("change", again);
  place.append(
    h(
      "div",
      { class: "row" },
      field("category", t("devices.category"), category),
      field("state", t("devices.state"), state),
      doing(t("devices.read-again"), problems, () => listing.read()),
    ),
    finder(site),
    problems,
    listed,
  );
  await listing.begin();
  const heard = (device) => {
    const place = listed.querySelector(`[data-hw-id="${CSS.escape(device.hw_id)}"]`);
    if (place) fill(place, standingOf(device));
  };
  const ends = [whenBack(() => attempt(problems, () => listing.read())), whenHeard(heard)];
  return () => ends.forEach((end) => end());
}

/** Go to the device of a MAC, however it is spelt. */
function finder(site) {
  const mac = input("mac", { inputmode: "text" });
  const place = field("mac", t("devices.mac"), mac, t("devices.mac-hint"));
  return form({ class: "finder" }, [place], t("devices.find"), () => {
    const hwId = hwIdIn(mac.value);
    if (!hwId) return refuse(place, t("devices.no-mac"));
    location.hash = site.to("devices", hwId);
  });
}

function standingOf(device) {
  return [stateOf(device.stuck_since ? "stuck" : device.state), pbxOf(device.pbx)];
}

function nameOf(device, site) {
  const name = device.name || device.product || t("devices.nameless");
  return fill(
    h("span", {}),
    h("a", { href: site.to("devices", device.hw_id) }, name),
    h("small", {}, `${device.product} ${hwIdOf(device.hw_id)}`),
  );
}
