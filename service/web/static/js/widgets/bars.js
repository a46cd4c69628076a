// Labels with their probabilities, the likeliest first.

import { h } from "../dom.js";
import { percent } from "../i18n.js";
import { nameOf } from "../names.js";

/** A probability in percent; nothing that is not certain is shown as 0 or 100. */
export function share(probability) {
  if (probability > 0.9995) return `> ${percent(0.999)}`;
  return probability < 0.0005 ? `< ${percent(0.001)}` : percent(probability);
}

/**
 * @param labels `{label, probability}`, the likeliest first.
 * @param chosen the labels that stand out.
 * @param data the name of the data set that the labels are of.
 * @param muted whether the answer deserves no confidence.
 */
export function bars(labels, chosen = new Set(), { data, muted = false } = {}) {
  return h(
    "ol",
    { class: muted ? "bars muted" : "bars" },
    labels.map(({ label, probability }) => {
      const fill = h("div", { class: "bar-fill" });
      fill.style.width = `${100 * probability}%`;
      return h(
        "li",
        { class: chosen.has(label) ? "chosen" : null },
        h("span", { class: "name" }, nameOf(label, data)),
        h("div", { class: "bar-track", "aria-hidden": "true" }, fill),
        h("span", { class: "value" }, share(probability)),
      );
    }),
  );
}
