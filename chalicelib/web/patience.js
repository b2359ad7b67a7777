// Work that is made of many calls: it waits where the service asks for it, and goes on.
// It must not show anything.

import { Problem } from "./client.js";

const SECOND_MS = 1000;
const PASSING = new Set(["limit-reached", "unavailable", "central-unavailable", "in-progress"]);

/** Make a call, again after as long as the service asks for; `wait` hears of the seconds, and of null after them.
 *  `isOver` ends it between two calls. */
export async function patiently(make, wait = () => {}, isOver = () => false) {
  for (;;) {
    try {
      return await make();
    } catch (error) {
      if (!(error instanceof Problem) || !(PASSING.has(error.type) || error.status === 429 || error.status === 503)) throw error;
      if (isOver()) throw error;
      const seconds = error.retryAfterSeconds || 2;
      wait(seconds);
      await new Promise((resolve) => setTimeout(resolve, seconds * SECOND_MS));
      wait(null);
      if (isOver()) throw error;
    }
  }
}

/** Part a list into pieces of a size. */
export function* pieces(list, size) {
  for (let start = 0; start < list.length; start += size) yield list.slice(start, start + size);
}
