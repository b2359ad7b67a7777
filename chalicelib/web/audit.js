// The audit trail of a domain: what happened in a month, who did it, and from where.
// It must not change anything.

import { h, loadTextsOf, moment, said, t } from "./dom.js";
import { call } from "./client.js";
import { Listing, attempt, field, input, whenBack } from "./devices_forms.js";

const LIMIT = 50;

// what the detail of an action is made of, where it is made of the service's own words alone
const MADE_OF = {
  "code refused": "refusal",
  "admission refused": "refusal",
  "job made": "type",
  "job deleted": "type",
  "domain made": "setting",
  "domain changed": "setting",
  "PBX set": "setting",
};

/** Say a detail as far as it is the service's words; names in it stay, and what is made of names alone. */
function detailOf({ action, detail }) {
  const kind = MADE_OF[action];
  if (!kind) return said(`detail.${action}`, detail);
  return detail.split(", ").map((word) => said(kind, word)).join(", ");
}

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
      [t("audit.what"), (entry) => h("span", {}, said("action", entry.action), entry.detail && h("small", {}, detailOf(entry)))],
      [t("audit.when"), (entry) => moment(entry.at, { dateStyle: "short", timeStyle: "medium" })],
      [t("audit.who"), (entry) => entry.actor || "–"],
      [t("audit.subject"), (entry) => h("span", {}, said(`subject.${entry.action}`, entry.subject) || "–", entry.owner && h("small", {}, entry.owner))],
      [t("audit.source"), (entry) => h("span", { class: "whole" }, entry.source || "–")],
    ],
    read: (cursor) => call("GET", `${site.path}/audit`, { query: { month: month.value, limit: LIMIT, cursor } }),
  });
  month.addEventListener("change", () => attempt(problems, () => listing.begin()));
  place.append(h("div", { class: "row" }, field("month", t("audit.month"), month)), problems, listed);
  await listing.begin();
  return whenBack(() => attempt(problems, () => listing.read()));
}
