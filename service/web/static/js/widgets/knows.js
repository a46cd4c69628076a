// What a model knows: its labels, or the column that it predicts.

import { h, put } from "../dom.js";
import { number, t } from "../i18n.js";
import { nameOf } from "../names.js";

const NAMED = 12; // labels

/** @param manifest of the model. */
export function knows({ labels = [], data, target, kind }) {
  if (kind === "regression") return h("p", { class: "knows" }, t("knows.number", { target }));
  const names = labels.map((label) => nameOf(label, data?.name));
  if (!names.length) return null;
  const list = h("span", {}, names.slice(0, NAMED).join(", "));
  const rest = names.length - NAMED;
  const more = rest > 0 && h("button", { type: "button", class: "link", onclick: all }, t("knows.more", { count: number(rest) }));
  const title = target ? t("knows.target", { target }) : t("knows.labels", { count: number(names.length) });
  return h("p", { class: "knows" }, h("strong", {}, title), " ", list, " ", more);

  function all() {
    put(list, names.join(", "));
    more.remove();
  }
}
