// How far each column moves an answer, from its lowest to its highest value; the farthest first.

import { h } from "../dom.js";

const SHOWN = 10;

/**
 * @param moved `{name, low, high}`: the answer with the column at its lowest and at its highest value.
 * @param now the answer as it is.
 * @param show writes an answer for people.
 * @param scale the ends of the scale; where none are given, the farthest answers.
 */
export function ranges(moved, now, show, scale = null) {
  const span = ({ low, high }) => Math.abs(high - low);
  const ranked = [...moved].sort((one, other) => span(other) - span(one)).slice(0, SHOWN);
  const every = [now, ...ranked.flatMap(({ low, high }) => [low, high])];
  const [least, most] = scale ?? [Math.min(...every), Math.max(...every)];
  const at = (value) => (most > least ? (100 * (value - least)) / (most - least) : 50);
  return h(
    "ol",
    { class: "ranges" },
    ranked.map(({ name, low, high }) => {
      const bar = h("span", { class: "span" });
      bar.style.left = `${at(Math.min(low, high))}%`;
      bar.style.width = `${Math.abs(at(high) - at(low))}%`;
      const mark = h("span", { class: "now" });
      mark.style.left = `${at(now)}%`;
      return h(
        "li",
        {},
        h("span", {}, name),
        h("span", { class: "track", "aria-hidden": "true" }, bar, mark),
        h("span", { class: "value" }, `${show(low)} → ${show(high)}`),
      );
    }),
  );
}
