// A share as a bar, with the number beside it.

import { h } from "../dom.js";
import { roughly } from "../i18n.js";

/** @param kind colours the bar: `first` or `second` of two that are compared. */
export function meter(share, kind = "only") {
  const fill = h("div", { class: `bar-fill ${kind}` });
  fill.style.width = `${100 * Math.min(1, share)}%`;
  return h(
    "div",
    { class: "meter" },
    h("div", { class: "bar-track", "aria-hidden": "true" }, fill),
    h("span", { class: "value" }, roughly(share)),
  );
}
