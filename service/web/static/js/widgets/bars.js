// Labels with their probabilities, the likeliest first.

import { h } from "../dom.js";
import { percent } from "../i18n.js";

/** A probability in percent; nothing that is not certain is shown as 0 or 100. */
export function share(probability) {
  if (probability > 0.9995) return `> ${percent(0.999)}`;
  return probability < 0.0005 ? `< ${percent(0.001)}` : percent(probability);
}

/**
 * @param labels `{label, probability}`, the likeliest first.
 * @param chosen the labels that stand out.
 */
export function bars(labels, chosen = new Set()) {
  return h(
    "ol",
    { class: "bars" },
    labels.map(({ label, probability }) => {
      const fill = h("div", { class: "bar-fill" });
      fill.style.width = `${100 * probability}%`;
      return h(
        "li",
        { class: chosen.has(label) ? "chosen" : null },
        h("span", { class: "name" }, label),
        h("div", { class: "bar-track", "aria-hidden": "true" }, fill),
        h("span", { class: "value" }, share(probability)),
      );
    }),
  );
}
