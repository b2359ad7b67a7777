// Lists that come page by page: where one is in them, and how one goes on.
// It must not know what is listed.

import { announce, fill, h, t } from "./dom.js";

/** The way through a list whose pages name the next one by a cursor. */
export class Paging {
  #trail = [null];
  #next = null;
  #go;
  #place = h("p", { class: "actions pager" });

  /** Take what reads the page that one has gone to. */
  constructor(go) {
    this.#go = go;
  }

  get cursor() {
    return this.#trail.at(-1);
  }

  get isFirst() {
    return this.#trail.length === 1;
  }

  /** Say which page follows the one that shows; returns the buttons, the same ones each time. */
  buttons(next) {
    this.#next = next;
    fill(
      this.#place,
      !(this.isFirst && !next) && [
        this.#button("previous", !this.isFirst, () => this.#trail.pop()),
        h("span", {}, t("paging.page", { number: this.#trail.length })),
        this.#button("next", next, () => this.#trail.push(this.#next)),
      ],
    );
    return this.#place;
  }

  /** Begin anew. */
  restart() {
    this.#trail = [null];
  }

  #button(name, isThere, move) {
    const button = h(
      "button",
      { type: "button", "data-go": name, disabled: !isThere, onclick: () => this.#move(button, move) },
      t(`paging.${name}`),
    );
    return button;
  }

  async #move(button, move) {
    const was = [...this.#trail];
    move();
    const isFocused = document.activeElement === button;
    this.#place.querySelectorAll("button").forEach((one) => (one.disabled = true));
    if (await this.#go()) announce(t("paging.page", { number: this.#trail.length }));
    else this.#trail = was;
    this.buttons(this.#next);
    // the same button goes on; at an end of the list the other one is left
    const name = button.dataset.go;
    const left = this.#place.querySelector(`[data-go="${name}"]:enabled`) ?? this.#place.querySelector(":enabled");
    if (isFocused) left?.focus();
  }
}

/** Make what tells of newer entries; its place is there before there are any, so that nothing moves. */
export function newer(show) {
  const place = h("div", { class: "newer" });
  return {
    place,
    say: (text) => fill(place, text && h("button", { type: "button", onclick: show }, text)),
  };
}
