// An answer that is a choice of labels: the likeliest, how typical the input is, bars, and the prediction set.

import { h, note, put } from "../dom.js";
import { number, percent, t } from "../i18n.js";
import { nameOf } from "../names.js";
import { bars, share } from "../widgets/bars.js";
import { more } from "../widgets/more.js";
import { isDoubtful, levelOf, typicality } from "../widgets/typicality.js";
import { coverageSlider, labelSet } from "./coverage.js";

const NAMED = 3; // labels of the set in its summary

/**
 * @param result of one item: its labels, the likeliest first.
 * @param manifest of the model, with its table of thresholds by coverage, if it was evaluated.
 * @param shown how many bars there are at least.
 * @param truth the true label, where it is known.
 * @returns the elements.
 */
export function labelAnswer(result, { manifest, settings, shown, truth = null }) {
  const data = manifest.data?.name;
  const [first] = result.labels;
  if (!first) return [h("h2", { class: "verdict" }, t("labels.none")), h("p", {}, t("labels.absent"))];
  const list = h("div");
  const set = h("div", { class: "stack" });
  const summary = h("span");
  const answer = [
    verdict(first, result, data),
    truth !== null && trueLabel(truth, first.label, data),
    typicality(result, manifest),
    list,
  ];
  if (!manifest.conformal?.length) {
    put(list, bars(result.labels.slice(0, shown), new Set([first.label]), { data, muted: isDoubtful(result) }));
    return [...answer, note(t("labels.uncalibrated"))];
  }
  const cover = coverageSlider(manifest.conformal, settings, write);
  write(cover.point);
  return [...answer, more("set", summary, h("div", { class: "stack" }, cover.element, set))];

  function write(point) {
    const labels = labelSet(result.labels, point.threshold);
    const bound = result.labels.slice(0, Math.max(shown, labels.length));
    put(list, bars(bound, new Set(labels), { data, muted: isDoubtful(result) }));
    put(summary, t("coverage.summary", { coverage: percent(point.coverage, 0) }), " ", inBrief(labels));
    put(
      set,
      h(
        "ul",
        { class: "chips", "aria-label": t("coverage.set") },
        labels.map((label) => h("li", {}, nameOf(label, data))),
      ),
      note(
        t("coverage.measured", { coverage: percent(point.test_coverage), size: number(point.mean_set_size, 2) }),
      ),
    );
  }

  /** The set in a line; for an input that is unlike the training data it means nothing. */
  function inBrief(labels) {
    if (levelOf(result) === "unlike") return t("coverage.void");
    const rest = labels.length - NAMED;
    return h(
      "span",
      { class: "chips" },
      labels.slice(0, NAMED).map((label) => h("span", { class: "chip" }, nameOf(label, data))),
      rest > 0 && h("span", {}, t("knows.more", { count: number(rest) })),
    );
  }
}

/** The likeliest label as a headline, which claims no more than the input allows. */
export function verdict({ label, probability }, result, data) {
  const values = { label: nameOf(label, data) };
  const level = levelOf(result);
  const text = level === "unlike" ? t("labels.none") : level === "unusual" ? t("labels.maybe", values) : values.label;
  return h(
    "h2",
    { class: "verdict" },
    h("span", {}, text),
    " ",
    level !== "unlike" && h("span", { class: isDoubtful(result) ? "value doubtful" : "value" }, share(probability)),
  );
}

/** The true label of a sample, and whether it was answered. */
export const trueLabel = (truth, answered, data) =>
  h(
    "p",
    { class: truth === answered ? "truth" : "truth wrong" },
    t(truth === answered ? "labels.right" : "labels.wrong", { label: nameOf(truth, data) }),
  );
