// A slider with its name and its value beside it.

import { freshId, h } from "../dom.js";

/**
 * @param show writes a value for people.
 * @param onmove is told of each value while it moves.
 */
export function slider({ name, min, max, step, value, show, onmove }) {
  const id = freshId("slider");
  const output = h("output", { for: id });
  const input = h("input", { id, type: "range", min, max, step, ".value": String(value) });
  const write = () => {
    output.value = show(Number(input.value));
    input.setAttribute("aria-valuetext", output.value);
  };
  input.addEventListener("input", () => {
    write();
    onmove(Number(input.value));
  });
  write();
  return {
    element: h("div", { class: "slider" }, h("div", { class: "row" }, h("label", { for: id }, name), output), input),
    get value() {
      return Number(input.value);
    },
    set value(given) {
      input.value = String(given);
      write();
    },
  };
}
