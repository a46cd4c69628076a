// A list to choose one from.

import { freshId, h } from "../dom.js";

/** @param options `[value, text]` each. */
export function choice(name, options, value, onchange) {
  const id = freshId("choice");
  const select = h(
    "select",
    { id, onchange: () => onchange(select.value) },
    options.map(([each, text]) => h("option", { value: each, ".selected": each === value }, text)),
  );
  return h("div", { class: "field" }, h("label", { for: id }, name), select);
}
