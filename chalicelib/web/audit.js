// The audit trail of a domain: what happened in a month, who did it, and from where.
// It must not change anything.

import { h, loadTextsOf, moment, said, t } from "./dom.js";
import { call } from "./client.js";
import { Listing, attempt, field, input, whenBack } from "./devices_forms.js";

const LIMIT = 50;

/** Show what happened in a month; returns what ends it. */
export async function show(place, site) {
  await loadTextsOf("audit");
  const problems = h("div", {});
  const listed = h("div", {});
  const month = input("month", { type: "month", value: new Date().toISOString().slice(0, 7), pattern: "[0-9]{4}-[0-9]{2}" });
  const listing = new Listing(listed, {
    label: t("devices.part-audit"),
    empty: t("audit.none"),
    columns: [
      [t("audit.what"), (entry) => h("span", {}, said("action", entry.action), entry.detail && h("small", {}, entry.detail))],
      [t("audit.when"), (entry) => moment(entry.at, { dateStyle: "short", timeStyle: "medium" })],
      [t("audit.who"), (entry) => entry.actor || "–"],
      [t("audit.subject"), (entry) => h("span", {}, entry.subject || "–", entry.owner && h("small", {}, entry.owner))],
      [t("audit.source"), (entry) => h("span", { class: "whole" }, entry.source || "–")],
    ],
    read: (cursor) => call("GET", `${site.path}/audit`, { query: { month: month.value, limit: LIMIT, cursor } }),
  });
  month.addEventListener("change", () => attempt(problems, () => listing.begin()));
  place.append(h("div", { class: "row" }, field("month", t("audit.month"), month)), problems, listed);
  await listing.begin();
  return whenBack(() => attempt(problems, () => listing.read()));
}
