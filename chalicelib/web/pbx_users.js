// The users of a domain's PBX: when they were read, what came of it, and having them read at once.
// It must not read how the PBX is: whoever shows it does.

import { announce, fill, h, moment, t } from "./dom.js";
import { doing, done, make } from "./devices_forms.js";
import { usersToDoOf, whyOf } from "./pbx_words.js";

const READ = "read";
const IMPORTED = ["added", "changed", "unchanged", "invalid", "gone"];
// it begins within a minute, and takes up to half of one
const AWAITED_MS = 120_000;

/** The section; `readSoon` has the PBX read again in a while. */
export class PbxUsers {
  element;
  #readSoon;
  #readAt = null; // when they were last read, as far as we know
  #awaited = 0; // until when they are to be read anew, as far as we know
  #about = h("p", {});
  #standing = h("div", {});
  #problems = h("div", {});

  constructor(path, readSoon) {
    this.#readSoon = readSoon;
    const ask = async () => {
      await make(`${path}/replicate`, undefined);
      this.follow();
      done(this.#problems, t("pbx.users-asked"));
    };
    this.element = h(
      "section",
      { "aria-labelledby": "pbx-users" },
      h("h3", { id: "pbx-users" }, t("pbx.users")),
      this.#about,
      this.#standing,
      h("p", { class: "actions" }, doing(t("pbx.users-read-now"), this.#problems, ask)),
      this.#problems,
    );
  }

  /** They are read anew soon: look until they were, for a while. */
  follow() {
    this.#awaited = Date.now() + AWAITED_MS;
    this.#readSoon();
  }

  /** Look no longer. */
  end() {
    this.#awaited = 0;
  }

  /** Show what the service told of a PBX. */
  draw({ imports_users: isImport, replication }) {
    fill(this.#about, t(isImport ? "pbx.users-imported" : "pbx.users-only-read"));
    fill(this.#standing, replication ? standingOf(replication, isImport) : h("p", {}, t("pbx.users-never")));
    const at = replication?.at ?? null;
    const isNew = at !== null && at !== this.#readAt;
    this.#readAt = at;
    if (this.#awaited === 0) return;
    if (isNew) this.#tell(replication?.trouble);
    else if (Date.now() < this.#awaited) this.#readSoon();
    else this.#problems.replaceChildren();
  }

  #tell(trouble) {
    this.#awaited = 0;
    this.#problems.replaceChildren();
    if (trouble) announce(`${whyOf(trouble)} ${usersToDoOf(trouble)}`);
    else done(this.#problems, t("pbx.users-read"));
  }
}

/** Say when they were read and what came of it, what there is of it. */
function standingOf({ at, trouble, retry_at: retryAt, ...counts }, isImport) {
  const known = [READ, ...(isImport ? IMPORTED : [])].filter((name) => counts[name] !== null);
  const facts = [
    [t("pbx.users-at"), moment(at)],
    ...known.map((name) => [t(`pbx.users-${name}-count`), String(counts[name])]),
    [t("pbx.users-next"), moment(retryAt)],
  ];
  const list = h("dl", { class: "facts" }, facts.map(([words, value]) => h("div", {}, h("dt", {}, words), h("dd", {}, value))));
  if (!trouble) return list;
  return h("div", { class: "problem" }, h("p", { class: "warning" }, whyOf(trouble)), h("p", {}, usersToDoOf(trouble)), list);
}
