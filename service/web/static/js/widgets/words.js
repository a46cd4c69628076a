// A text whose words are coloured by how much they moved the answer.

import { h } from "../dom.js";
import { number, t } from "../i18n.js";

const NAMED = 8;
const FAINTEST = 0.12; // of the heaviest word; less is left without a colour

/**
 * @param written the text.
 * @param weighed `{word, start, weight}` in the order of the text; `start` counts characters, not UTF-16 units.
 * @param label which the words speak for or against.
 */
export function words(written, weighed, label) {
  const characters = Array.from(written);
  const heaviest = Math.max(...weighed.map(({ weight }) => Math.abs(weight)), 1e-9);
  const text = h("p", { class: "words" });
  let at = 0;
  for (const { word, start, weight } of weighed) {
    text.append(characters.slice(at, start).join(""));
    const share = Math.abs(weight) / heaviest;
    text.append(share < FAINTEST ? word : coloured(word, weight, share));
    at = start + Array.from(word).length;
  }
  text.append(characters.slice(at).join(""));
  return h(
    "div",
    { class: "stack" },
    h("p", { class: "quiet small" }, t("words.legend", { label })),
    text,
    strongest(weighed, label),
  );
}

function coloured(word, weight, share) {
  const mark = h("mark", { class: weight > 0 ? "for" : "against", title: signed(weight) }, word);
  mark.style.setProperty("--share", `${Math.round(10 + 36 * share)}%`);
  return mark;
}

/** The words that moved the answer most, for those who do not see the colours. */
function strongest(weighed, label) {
  const ranked = [...weighed].sort((one, other) => Math.abs(other.weight) - Math.abs(one.weight)).slice(0, NAMED);
  return h(
    "ol",
    { class: "chips", "aria-label": t("words.strongest", { label }) },
    ranked.map(({ word, weight }) => h("li", { class: weight > 0 ? null : "warn" }, `${word} ${signed(weight)}`)),
  );
}

const signed = (value) => `${value > 0 ? "+" : "−"}${number(Math.abs(value), 2)}`;
