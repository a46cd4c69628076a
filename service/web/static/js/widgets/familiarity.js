// Whether an input is unlike what the model was trained on, where the model says so.

import { h } from "../dom.js";
import { share } from "./bars.js";
import { t } from "../i18n.js";

// Of familiar inputs, one in a hundred is called unfamiliar.
const LEVEL = 0.01;

/** @param result may have `unfamiliar`: the share of validation inputs that are at least as strange (a p-value). */
export function familiarity(result) {
  if (typeof result.unfamiliar !== "number" || result.unfamiliar >= LEVEL) return null;
  return h("p", {}, h("span", { class: "chip warn" }, t("familiarity.low", { share: share(result.unfamiliar) })));
}
