// An answer that is a choice of labels: bars, and the set that holds the truth as often as asked.

import { h, put } from "../dom.js";
import { number, percent, t } from "../i18n.js";
import { bars, share } from "../widgets/bars.js";
import { familiarity } from "../widgets/familiarity.js";
import { coverageSlider, labelSet } from "./coverage.js";

/**
 * @param result of one item: its labels, the likeliest first.
 * @param manifest of the model, with its table of thresholds by coverage.
 * @param shown how many bars there are at least.
 * @param onmove is given the coverage, now and when it changes.
 * @returns the elements.
 */
export function labelAnswer(result, { manifest, settings, shown, onmove = () => {} }) {
  const list = h("div");
  const set = h("div", { class: "stack" });
  const cover = coverageSlider(manifest.conformal, settings, write);
  const [first] = result.labels;
  write(cover.point);
  return [
    h("h2", {}, t("labels.best", { label: first.label, probability: share(first.probability) })),
    familiarity(result, manifest),
    list,
    cover.element,
    set,
  ];

  function write(point) {
    const labels = labelSet(result.labels, point.threshold);
    put(list, bars(result.labels.slice(0, Math.max(shown, labels.length)), new Set(labels)));
    put(
      set,
      h(
        "ul",
        { class: "chips", "aria-label": t("coverage.set") },
        labels.map((label) => h("li", {}, label)),
      ),
      h(
        "p",
        { class: "quiet small" },
        t("coverage.measured", { coverage: percent(point.test_coverage), size: number(point.mean_set_size, 2) }),
      ),
    );
    onmove(point.coverage);
  }
}
