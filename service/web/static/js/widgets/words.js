// A text whose words are coloured by how much they moved the answer, and the strongest of them as bars.

import { h, note } from "../dom.js";
import { number, t } from "../i18n.js";
import { contributions, legend } from "./contributions.js";

const FAINTEST = 0.12; // of the heaviest word; less is left without a colour

/**
 * @param written the text.
 * @param weighed `{word, start, weight, known}` in the order of the text; `start` counts characters, not UTF-16 units.
 * @param label which the words speak for or against.
 * @param unread how many words of the text were not read.
 */
export function words(written, weighed, label, unread) {
  const characters = Array.from(written);
  const heaviest = Math.max(...weighed.map(({ weight }) => Math.abs(weight)), 1e-9);
  const text = h("p", { class: "words" });
  let at = 0;
  for (const { word, start, weight, known } of weighed) {
    text.append(characters.slice(at, start).join(""));
    const share = Math.abs(weight) / heaviest;
    if (!known) text.append(h("span", { class: "unknown", title: t("words.unknown") }, word));
    else text.append(share < FAINTEST ? word : coloured(word, weight, share));
    at = start + Array.from(word).length;
  }
  if (unread) text.append(" ", h("span", { class: "quiet" }, t("words.unread", { count: number(unread) })));
  else text.append(characters.slice(at).join(""));
  const unknown =
    weighed.some(({ known }) => !known) && h("li", {}, h("span", { class: "unknown" }, t("words.unknown")));
  return h(
    "div",
    { class: "stack" },
    legend(label, unknown || []),
    text,
    h("h3", {}, t("words.strongest")),
    contributions(distinct(weighed), { shown: 8 }),
    note(t("words.scale")),
  );
}

function coloured(word, weight, share) {
  const mark = h("mark", { class: weight > 0 ? "for" : "against" }, word);
  mark.style.setProperty("--share", `${Math.round(10 + 36 * share)}%`);
  return mark;
}

/** Each word once, however often it stands in the text, with the weight of its strongest occurrence. */
function distinct(weighed) {
  const found = Map.groupBy(weighed, ({ word }) => word.toLowerCase());
  return [...found].map(([word, all]) => {
    const { weight } = all.reduce((one, other) => (Math.abs(other.weight) > Math.abs(one.weight) ? other : one));
    return { name: all.length > 1 ? `${word} ×${all.length}` : word, weight };
  });
}
