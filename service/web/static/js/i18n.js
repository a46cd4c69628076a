// The page's language: the one that was chosen, else the browser's first.

import { lasting } from "./storage.js";
import en from "./texts/en.js";
import ko from "./texts/ko.js";

const TEXTS = { en, ko };
const STORED = "quartet.language";

/** The languages there are, each by its own name. */
export const LANGUAGES = { en: "English", ko: "한국어" };

export let language = initial();

function initial() {
  const chosen = lasting.get(STORED);
  if (chosen in TEXTS) return chosen;
  const first = (navigator.languages ?? [navigator.language]).map((each) => each.slice(0, 2));
  return first.find((each) => each in TEXTS) ?? "en";
}

export function setLanguage(chosen) {
  language = chosen;
  lasting.set(STORED, chosen);
  document.documentElement.lang = chosen;
}

/** Adds the texts of a part of the page that is loaded later. */
export function addTexts(added) {
  for (const [each, texts] of Object.entries(added)) Object.assign(TEXTS[each], texts);
}

/** A text in the page's language, with `{name}` replaced by the value of that name. */
export function t(key, values = {}) {
  const text = TEXTS[language][key];
  if (text === undefined) throw new Error(`no text ${key} in ${language}`);
  return text.replace(/\{(\w+)\}/g, (_, name) => values[name]);
}

export const hasText = (key) => key in TEXTS[language];

export const number = (value, digits = 0) =>
  value.toLocaleString(language, { minimumFractionDigits: digits, maximumFractionDigits: digits });

export const percent = (value, digits = 1) =>
  value.toLocaleString(language, { style: "percent", minimumFractionDigits: digits, maximumFractionDigits: digits });

/** A share in percent, with no more digits than it needs. */
export const roughly = (share) => share.toLocaleString(language, { style: "percent", maximumSignificantDigits: 3 });

/** A number with about so many significant digits, as people write it. */
export const brief = (value, digits = 4) => value.toLocaleString(language, { maximumSignificantDigits: digits });

/** A moment, by its Unix time in seconds or as ISO 8601 has it: its time, and its date where that is not today. */
export function moment(given) {
  const date = new Date(typeof given === "number" ? 1000 * given : given);
  const time = { hour: "2-digit", minute: "2-digit" };
  if (date.toDateString() === new Date().toDateString()) return date.toLocaleTimeString(language, time);
  return date.toLocaleString(language, { month: "short", day: "numeric", ...time });
}
