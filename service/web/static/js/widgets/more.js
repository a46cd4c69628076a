// Details that most people do not need, behind a line that sums them up.

import { h } from "../dom.js";

const open = new Set(); // the kinds that somebody has opened stay open in later answers

/** @param kind names what is behind it, the same in every answer. */
export function more(kind, summary, ...children) {
  const element = h("details", { class: "more", open: open.has(kind) }, h("summary", {}, summary), ...children);
  element.addEventListener("toggle", () => (element.open ? open.add(kind) : open.delete(kind)));
  return element;
}
