// The confidence threshold: a slider and the model's precision-recall curve, of which one moves the other.

import { h, note, put } from "../dom.js";
import { number, percent, t } from "../i18n.js";
import { nameOf } from "../names.js";
import { choice } from "../widgets/choice.js";
import { precisionRecall } from "../widgets/curve.js";
import { slider } from "../widgets/slider.js";

const ALL = "";

/**
 * @param manifest of a detector. Where it was evaluated, its `curves` are of the validation split and choose where the slider begins, as the
 *   service does; its `test_curves` say what a threshold does. Older versions have only `curves`, of the test split.
 * @param onmove is called when the threshold has changed.
 */
export function thresholdView(manifest, settings, onmove) {
  return manifest.curves ? measuredView(manifest, settings, onmove) : plainView(manifest, settings, onmove);
}

/** The slider alone, for a model that was never evaluated. */
function plainView({ confidence }, settings, onmove) {
  let chosen = settings.number("confidence", confidence);
  const moved = slider({
    name: t("threshold.name"),
    min: 0,
    max: 1,
    step: 0.01,
    value: chosen,
    show: (value) => number(value, 2),
    onmove(value) {
      chosen = value;
      settings.set({ confidence: chosen });
      onmove();
    },
  });
  return {
    elements: [moved.element, note(t("threshold.unmeasured"))],
    get confidence() {
      return chosen;
    },
  };
}

function measuredView({ curves: choosing, test_curves: measured, labels, data }, settings, onmove) {
  const curves = measured ?? choosing;
  const confidences = curves.confidence;
  const balanced = choosing.confidence[best(choosing.overall.f1)];
  let index = nearest(confidences, settings.number("confidence", balanced));
  const figures = h("p", { class: "figures" });
  const source = note(
    t("threshold.data", { data: data.name, count: number(data.test) }),
    " ",
    measured && t("threshold.chosen", { confidence: number(balanced, 3) }),
  );
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
    [[ALL, t("threshold.all")], ...labels.filter((label) => Object.hasOwn(curves.per_class, label)).map((label) => [label, nameOf(label, data.name)])],
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
      }),
    );
  }

  draw(ALL);
  return {
    elements: [moved.element, figures, chart.element, source, shown],
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
