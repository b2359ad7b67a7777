// What there is to say of a PBX: how far it is with a phone, what is wrong, and what to do about it.
// It must not know a route of the service.

import { h, hasText, said, t } from "./dom.js";

/** Write how far the PBX is with a phone, nothing where that is not known; `isOwn` for whoever has the phone. */
export function pbxOf(pbx, { isOwn = false } = {}) {
  if (!pbx) return null;
  const { state, reason } = pbx;
  const words = [t(`pbx.state-${state}`)];
  if (reason) words.push(whyOf(reason));
  if (state === "failed") words.push(isOwn ? t("pbx.ask") : toDoOf(reason));
  return h("small", { class: state === "failed" ? "warning" : null, "data-pbx": state }, words.join(" "));
}

/** Say why something is not at the PBX; what the PBX said itself stays as it is. */
export function whyOf(reason) {
  return said("pbx.why", reason);
}

/** Say what an administrator can do about it. */
export function toDoOf(reason) {
  // behind the colon is what the PBX said
  return said("pbx.do", reason.split(":")[0]);
}

/** Say what an administrator can do so that the PBX's users are read. */
export function usersToDoOf(reason) {
  return hasText(`pbx.users-do.${reason}`) ? t(`pbx.users-do.${reason}`) : toDoOf(reason);
}
