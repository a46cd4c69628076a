// A part of a panel, with a title.

import { h } from "../dom.js";
import { t } from "../i18n.js";

/** @param key its title is the text `<key>.title`. */
export function section(key, ...children) {
  return h(
    "section",
    { class: "card stack", "aria-label": t(`${key}.title`) },
    h("h2", {}, t(`${key}.title`)),
    ...children,
  );
}
