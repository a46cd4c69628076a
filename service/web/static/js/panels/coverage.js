// The label set of split conformal prediction, chosen on the page from a model's table of thresholds.

import { percent, t } from "../i18n.js";
import { slider } from "../widgets/slider.js";

const CUSTOMARY = 0.95;

/** A slider over the rows of the table; `onmove` is given the row. */
export function coverageSlider(points, settings, onmove) {
  const wanted = settings.number("coverage", CUSTOMARY);
  const start = Math.max(
    0,
    points.findIndex(({ coverage }) => coverage >= wanted - 1e-9),
  );
  const made = slider({
    name: t("coverage.name"),
    min: 0,
    max: points.length - 1,
    step: 1,
    value: start,
    show: (index) => percent(points[index].coverage, 0),
    onmove(index) {
      settings.set({ coverage: points[index].coverage });
      onmove(points[index]);
    },
  });
  return { element: made.element, point: points[start] };
}

/** The labels whose probability reaches the threshold; the likeliest always does. */
export function labelSet(labels, threshold) {
  return labels.filter(({ probability }, rank) => rank === 0 || probability >= threshold).map(({ label }) => label);
}
