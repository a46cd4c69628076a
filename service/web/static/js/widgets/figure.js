// A test figure, with its interval where one follows from the number of test items.

import { h } from "../dom.js";
import { brief, number, percent, t } from "../i18n.js";

// Shares of test items that were right; an interval of other figures needs more than their number.
const SHARES = new Set(["accuracy", "linear_accuracy"]);
const Z = 1.96;

/** What is shown of a figure. */
export function figure(name, value, detail) {
  if (!SHARES.has(name)) return brief(value, 4);
  const count = detail?.manifest.data?.test;
  if (!count) return percent(value, 2);
  const [low, high] = wilson(value, count);
  return [
    percent(value, 2),
    h(
      "span",
      { class: "interval quiet small" },
      t("figure.interval", { low: percent(low), high: percent(high), count: number(count) }),
    ),
  ];
}

/** The 95 % interval of a share (Wilson 1927). */
function wilson(share, count) {
  const middle = (share + Z ** 2 / (2 * count)) / (1 + Z ** 2 / count);
  const half = (Z * Math.sqrt((share * (1 - share)) / count + Z ** 2 / (4 * count ** 2))) / (1 + Z ** 2 / count);
  return [middle - half, middle + half];
}
