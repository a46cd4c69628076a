// The confidence threshold: a slider and the model's precision-recall curve, of which one moves the other.

import { h, put } from "../dom.js";
import { number, percent, t } from "../i18n.js";
import { choice } from "../widgets/choice.js";
import { precisionRecall } from "../widgets/curve.js";
import { slider } from "../widgets/slider.js";

const ALL = "";

/**
 * @param manifest of a detector; its curves have figures for each threshold.
 * @param onmove is called when the threshold has changed.
 */
export function thresholdView({ curves, labels, data }, settings, onmove) {
  const confidences = curves.confidence;
  let index = nearest(confidences, settings.number("confidence", confidences[best(curves.overall.f1)]));
  const figures = h("p", { class: "figures" });
  const chart = precisionRecall((picked) => set(picked));
  const moved = slider({
    name: t("threshold.name"),
    min: 0,
    max: confidences.length - 1,
    step: 1,
    value: index,
    show: (at) => number(confidences[at], 3),
    onmove: set,
  });
  const shown = choice(
    t("threshold.curve"),
    [[ALL, t("threshold.all")], ...labels.filter((label) => label in curves.per_class).map((label) => [label, label])],
    ALL,
    draw,
  );
  let curve = curves.overall;

  function set(at) {
    index = at;
    moved.value = at;
    settings.set({ confidence: confidences[at] });
    write();
    onmove();
  }

  function draw(label) {
    curve = label === ALL ? curves.overall : curves.per_class[label];
    chart.draw(curve);
    write();
  }

  function write() {
    chart.move(index);
    put(
      figures,
      t("threshold.figures", {
        precision: percent(curve.precision[index]),
        recall: percent(curve.recall[index]),
        data: data.name,
      }),
    );
  }

  draw(ALL);
  return {
    elements: [moved.element, figures, chart.element, shown],
    get confidence() {
      return confidences[index];
    },
  };
}

const best = (values) => values.indexOf(Math.max(...values));

const nearest = (values, wanted) =>
  values.reduce(
    (found, value, index) => (Math.abs(value - wanted) < Math.abs(values[found] - wanted) ? index : found),
    0,
  );
