// The versions of a model in a table: what each does now.

import { h, put, whenChanged } from "../dom.js";
import { t } from "../i18n.js";
import { pageOf } from "../models.js";
import { meter } from "../widgets/meter.js";

export function versionTable(name) {
  const body = h("tbody");
  const element = h(
    "div",
    { class: "scroll versions", tabindex: "0", role: "region", "aria-label": t("versions.table") },
    h(
      "table",
      {},
      h(
        "thead",
        {},
        h(
          "tr",
          {},
          ["version", "status", "share", "device"].map((key) => h("th", { scope: "col" }, t(`versions.${key}`))),
        ),
      ),
      body,
    ),
  );
  const draw = whenChanged(({ versions, marks }) =>
    put(
      body,
      versions.map((version) => row(name, version, marks)),
    ),
  );
  return {
    element,
    show: ({ versions, previous, canary, shadow, ...state }) =>
      draw({
        versions,
        marks: [
          [state.default, "default"],
          [previous, "previous"],
          [canary?.version, "canary"],
          [shadow?.version, "shadow"],
        ],
      }),
  };
}

/** @param marks `[version, what it is]` each. */
function row(name, { version, status, aliases, share, variant, device, reason }, marks) {
  const loaded = status === "serving" || status === "loaded";
  const roles = marks.filter(([marked]) => marked === version).map(([, role]) => t(`role.${role}`));
  return h(
    "tr",
    {},
    h(
      "th",
      { scope: "row" },
      h("div", { class: "row" }, loaded ? h("a", { href: pageOf({ name, version }) }, version) : version),
      aliases.length > 0 &&
        h(
          "ul",
          { class: "chips small", "aria-label": t("versions.aliases") },
          aliases.map((alias) => h("li", {}, alias)),
        ),
    ),
    h(
      "td",
      {},
      h("div", { class: status === "refused" ? "bad" : null }, t(`serving.${status}`)),
      roles.length > 0 && h("div", { class: "quiet small" }, roles.join(", ")),
      reason && h("div", { class: "small bad", lang: "en" }, reason),
    ),
    h("td", {}, loaded && meter(share)),
    h("td", { class: "small" }, [device, variant].filter(Boolean).join(", ")),
  );
}
