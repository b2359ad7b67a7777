// The fields of a configuration type, made from what the service says of its parameters.
// It must not know any type by name.

import { h, said, t } from "./dom.js";
import { choice, field, input, mark } from "./devices_forms.js";

/** Fields for parameters: `element` shows them, `read` tells what is in them. */
export class ParameterFields {
  element;
  #read;

  constructor(parameters) {
    const fields = parameters.map((parameter) => [parameter.name, fieldOf(parameter)]);
    this.element = h("div", {}, fields.map(([, { element }]) => element));
    this.#read = fields;
  }

  /** Tell what is filled in, as a job takes it; null if something is marked that no job could say. */
  read() {
    const values = this.#read.map(([name, { value }]) => [name, value()]);
    if (values.some(([, value]) => value === null)) return null;
    return Object.fromEntries(values.filter(([, value]) => value !== undefined));
  }
}

function fieldOf(parameter) {
  const words = said("parameter", parameter.name);
  const label = parameter.is_required ? t("jobs.required", { name: words }) : words;
  const about = said("about", parameter.about);
  if (parameter.kind === "names") return namesOf(parameter, label, about);
  if (parameter.kind === "lines") return parameter.is_secret ? secretLinesOf(parameter, label, about) : linesOf(parameter, label, about);
  if (parameter.kind === "choice") return choiceOf(parameter, label, about);
  return plainOf(parameter, label, about);
}

function plainOf({ name, kind, is_secret: isSecret, is_required: isRequired }, label, about) {
  const control = isSecret ? secret(name) : input(name, kind === "number" ? { inputmode: "numeric" } : {});
  if (isRequired) control.setAttribute("aria-required", "true");
  const value = () => {
    const text = isSecret ? control.value : control.value.trim();
    if (text === "") return undefined;
    return kind === "number" && /^\d+$/.test(text) ? Number(text) : text;
  };
  return { element: field(name, label, control, about), value };
}

function choiceOf({ name, choices, is_required: isRequired }, label, about) {
  const options = choices.map((one) => [one, one]);
  const control = choice(name, isRequired ? options : [["", t("jobs.unset")], ...options]);
  return { element: field(name, label, control, about), value: () => control.value || undefined };
}

function linesOf({ name }, label, about) {
  const control = h("textarea", { name, rows: "6", spellcheck: "false", class: "mono" });
  const value = () => {
    const lines = control.value.split("\n").filter((line) => line.trim() !== "");
    return lines.length > 0 ? lines : undefined;
  };
  return { element: field(name, label, control, about), value };
}

function secretLinesOf({ name }, label, about) {
  const { element, rows } = rowsOf(name, label, about, () => [labelled(secret(name), t("jobs.line"))]);
  const value = () => {
    const lines = rows().map(([{ value: line }]) => line).filter((line) => line.trim() !== "");
    return lines.length > 0 ? lines : undefined;
  };
  return { element, value };
}

function namesOf({ name, is_secret: isSecret }, label, about) {
  const { element, rows } = rowsOf(name, label, about, () => [
    labelled(input(name), t("jobs.name")),
    labelled(isSecret ? secret(name) : input(name), t("jobs.value")),
  ]);
  const value = () => {
    const filled = rows()
      .map(([known, text]) => {
        // the service names a wrong value by its name, and the row is where that shows
        known.closest(".row").dataset.field = `${name}.${known.value.trim()}`;
        return [known.value.trim(), text.value];
      })
      .filter(([known, text]) => known !== "" || text !== "");
    const twice = filled.find(([known], at) => filled.findIndex(([other]) => other === known) !== at);
    if (twice) {
      mark(element, t("jobs.twice", { name: twice[0] }));
      return null;
    }
    return filled.length > 0 ? Object.fromEntries(filled) : undefined;
  };
  return { element, value };
}

/** A group of rows that grows on demand; `rows` tells the inputs of each. */
function rowsOf(name, label, about, newRow) {
  const list = h("div", { class: "rows" });
  const add = () => {
    const made = h("div", { class: "row" }, newRow());
    const remove = h("button", { type: "button", onclick: () => (made.remove(), more.focus()) }, t("jobs.remove-row"));
    made.append(remove);
    list.append(made);
    return made;
  };
  const more = h("button", { type: "button", onclick: () => add().querySelector("input").focus() }, t("jobs.add-row"));
  const element = h("fieldset", { class: "field", "data-field": name }, h("legend", {}, label), h("small", {}, about), list, more);
  add();
  return { element, rows: () => [...list.children].map((made) => [...made.querySelectorAll("input")]) };
}

function labelled(control, words) {
  return h("label", {}, h("span", {}, words), control);
}

function secret(name) {
  return input(name, { type: "password", autocomplete: "new-password" });
}
