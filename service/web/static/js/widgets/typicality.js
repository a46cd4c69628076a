// How typical an input is of the training data: a meter that stands beside every answer.

import { h, note } from "../dom.js";
import { t } from "../i18n.js";
import { nameOf } from "../names.js";
import { share } from "./bars.js";

// Upper ends of the levels, as p-values. Of 400 test images of CIFAR-10 the committed classifier is right about 56 %
// of those below 0.05, 83 % of those from 0.05 to 0.2, and 95 % of the others. Of 40 pictures of nothing that it knows
// (examples of scikit-image and scikit-learn, drawn shapes, noise, text) 36 are below 0.05 and all are below 0.2.
const LEVELS = [
  ["unlike", 0.05],
  ["unusual", 0.2],
  ["typical", 1],
];
const NAMED = 12; // labels

/** The level of a result; null where the model has no p-values. */
export function levelOf({ typicality }) {
  if (typeof typicality !== "number") return null;
  return (LEVELS.find(([, end]) => typicality < end) ?? LEVELS.at(-1))[0];
}

/** Whether a result deserves caution: its input is not known to be far from the training data, or it is. */
export const isDoubtful = (result) => ["unlike", "unusual"].includes(levelOf(result));

/**
 * The meter, its level in words, and what follows from it.
 *
 * @param result of one input; its `typicality` is a p-value, absent where the model has none.
 * @param manifest of the model that answered.
 */
export function typicality(result, manifest) {
  const level = levelOf(result);
  if (level === null) return note(t("typicality.absent"));
  return h(
    "div",
    { class: `typicality ${level}` },
    h("div", { class: "row ends" }, h("strong", {}, t(`typicality.${level}`)), scale(result.typicality)),
    h("p", { class: "small" }, t("typicality.share", { share: share(result.typicality) })),
    isDoubtful(result) && h("p", {}, caution(manifest)),
  );
}

/** Three parts of equal width, one for each level, and a mark. */
function scale(value) {
  const rank = LEVELS.findIndex(([, end]) => value < end);
  const at = rank < 0 ? LEVELS.length - 1 : rank;
  const [start, end] = [LEVELS[at - 1]?.[1] ?? 0, LEVELS[at][1]];
  const mark = h("span", { class: "mark" });
  mark.style.left = `${(100 * (at + (value - start) / (end - start))) / LEVELS.length}%`;
  return h(
    "span",
    { class: "scale", "aria-hidden": "true" },
    LEVELS.map(([level]) => h("span", { class: level })),
    mark,
  );
}

function caution({ labels, data, kind }) {
  if (!labels?.length || kind === "regression") return t("typicality.caution");
  const names = labels.map((label) => nameOf(label, data?.name));
  const more = names.length - NAMED;
  const listed = names.slice(0, NAMED).join(", ");
  return t("typicality.knows", { labels: more > 0 ? `${listed} ${t("knows.more", { count: more })}` : listed });
}
