// Whether an input is unlike what the model was trained on, where the model says so.

import { h } from "../dom.js";
import { share } from "./bars.js";
import { t } from "../i18n.js";

const LEVELS = [0.01, 0.05, 0.1];

/** The lowest level that a p-value of so many calibration items can be below, as `strict` has it. */
function levelOf(items) {
  return LEVELS.find((level) => level > 1 / (items + 1)) ?? LEVELS.at(-1);
}

/**
 * @param result may have `typicality`, a p-value.
 * @param manifest of the model; its `familiarity` says how many items calibrated that.
 */
export function familiarity(result, manifest) {
  if (typeof result.typicality !== "number") return null;
  if (result.typicality >= levelOf(manifest.familiarity.calibrated_on)) return null;
  return h("p", {}, h("span", { class: "chip warn" }, t("familiarity.low", { share: share(result.typicality) })));
}
