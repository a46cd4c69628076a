// What speaks for an answer and what against it, the strongest first: bars to either side of a line.

import { h } from "../dom.js";
import { number, t } from "../i18n.js";

/**
 * @param parts `{name, weight}` each; weights are log-odds, unless `show` and `least` say otherwise.
 * @param shown how many bars there are at most.
 * @param show writes the size of a weight.
 * @param least weights up to this size are left out.
 */
export function contributions(parts, { shown = 10, show = (size) => number(size, 2), least = 0.005 } = {}) {
  const ranked = parts
    .filter(({ weight }) => Math.abs(weight) > least)
    .sort((one, other) => Math.abs(other.weight) - Math.abs(one.weight))
    .slice(0, shown);
  if (!ranked.length) return h("p", { class: "quiet" }, t("contributions.none"));
  const heaviest = Math.abs(ranked[0].weight);
  return h(
    "ol",
    { class: "contributions" },
    ranked.map(({ name, weight }) => {
      const bar = h("span", { class: weight > 0 ? "for" : "against" });
      bar.style.width = `${(50 * Math.abs(weight)) / heaviest}%`;
      return h(
        "li",
        {},
        h("span", { class: "name" }, name),
        h("span", { class: "track", "aria-hidden": "true" }, bar),
        h("span", { class: "value" }, `${weight > 0 ? "+" : "−"}${show(Math.abs(weight))}`),
      );
    }),
  );
}

/** What the two colours stand for, of a label or of a number. */
export function legend(label = null, more = []) {
  const part = (kind, text) => h("li", {}, h("span", { class: `swatch ${kind}`, "aria-hidden": "true" }), text);
  return h(
    "ul",
    { class: "legend small" },
    part("for", label === null ? t("contributions.higher") : t("contributions.for", { label })),
    part("against", label === null ? t("contributions.lower") : t("contributions.against", { label })),
    more,
  );
}
