// Shares with their confidence intervals, on one scale.

import { h, note } from "../dom.js";
import { number, percent, t } from "../i18n.js";

/** @param rows `{name, value, low, high, count}`, all shares of so many items. */
export function intervals(rows) {
  const least = Math.max(0, Math.floor(10 * Math.min(...rows.map(({ low }) => low)) - 1e-9) / 10);
  const at = (share) => `${(100 * (share - least)) / (1 - least || 1)}%`;
  return [
    h(
      "ol",
      { class: "ranges intervals" },
      rows.map(({ name, value, low, high, count }) => {
        const span = h("span", { class: "span" });
        span.style.left = at(low);
        span.style.right = `calc(100% - ${at(high)})`;
        const mark = h("span", { class: "now" });
        mark.style.left = at(value);
        return h(
          "li",
          {},
          h("span", {}, name),
          h("span", { class: "track", "aria-hidden": "true" }, span, mark),
          h(
            "span",
            { class: "value" },
            t("intervals.one", {
              value: percent(value),
              low: number(100 * low, 1),
              high: number(100 * high, 1),
              count: number(count),
            }),
          ),
        );
      }),
    ),
    note(t("intervals.scale", { least: percent(least, 0) })),
  ];
}
