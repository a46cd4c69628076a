// A list to choose one from.

import { freshId, h } from "../dom.js";

/** @param options `[value, text]` each. */
export function choice(name, options, value, onchange) {
  const id = freshId("choice");
  const select = h(
    "select",
    { id, onchange: changed },
    options.map(([each, text]) => h("option", { value: each, ".selected": each === value }, text)),
  );
  return h("div", { class: "field" }, h("label", { for: id }, name), select);

  function changed() {
    select.focus(); // not every browser does that, and a panel that is drawn anew gives the focus back
    onchange(select.value);
  }
}
