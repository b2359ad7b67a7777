// Slips on paper: shows what the service wrote to print, sheet by sheet, and prints it.
// It must not keep a code: what it shows goes with its window.

import { fill, h, moment, once, t, worded } from "./dom.js";
import { Problem, textPage } from "./client.js";
import { patiently } from "./patience.js";

const A_SHEET = 100;

/** Show the slips of a rollout in a window above the page; resolves when they show. */
export async function showSlips(path, name) {
  const first = await read(path, { limit: A_SHEET });
  const frame = h("iframe", { title: t("slips.title", { name }) });
  const buttons = h("p", { class: "actions" });
  const place = h("p", { class: "sum", role: "status" });
  const dialog = h(
    "dialog",
    { class: "slips", "aria-labelledby": "slips", onclose: () => dialog.remove() },
    h("h2", { id: "slips" }, t("slips.title", { name })),
    place,
    frame,
    buttons,
  );
  let number = 0;

  function draw(page) {
    number += 1;
    write(frame, page.text);
    place.textContent = t(page.next ? "slips.more" : "slips.sheet", { number });
    const print = h("button", { type: "button", class: "primary", onclick: () => frame.contentWindow.print() }, t("slips.print"));
    const more = h("button", { type: "button", onclick: () => once(more, () => goOn(page.next)) }, t("slips.next"));
    const close = h("button", { type: "button", onclick: () => dialog.close() }, t("slips.close"));
    fill(buttons, print, page.next && more, close);
    print.focus();
  }

  async function goOn(query) {
    try {
      draw(await read(path, query));
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      place.textContent = worded(error);
    }
  }

  document.body.append(dialog);
  dialog.showModal();
  draw(first);
}

function read(path, query) {
  return patiently(() => textPage(path, query));
}

/** Put a page of the service into a frame. Our policy forbids its <style>, as it forbids any, so it is taken out
 *  before the page is read, and given to the frame as a style sheet, which comes from a script of ours. */
function write(frame, text) {
  const { document: inside, CSSStyleSheet: Sheet } = frame.contentWindow;
  const styles = [];
  const plain = text.replace(/<style>([^<]*)<\/style>/g, (_, style) => (styles.push(style), ""));
  const page = new DOMParser().parseFromString(plain, "text/html");
  const sheet = new Sheet();
  sheet.replaceSync(styles.join("\n"));
  inside.documentElement.lang = page.documentElement.lang;
  inside.title = page.title;
  inside.adoptedStyleSheets = [sheet];
  inside.body.replaceChildren(...page.body.childNodes);
  // the service does not know where paper will hang: it tells UTC
  inside.querySelectorAll("time").forEach((time) => time.replaceWith(moment(time.dateTime)));
}
