// Models: what is served, how good it is, and what was refused.

import { ROOT } from "../api.js";
import { h, put } from "../dom.js";
import { hasText, roughly, t } from "../i18n.js";
import { detailOf, pageOf } from "../models.js";
import { available } from "../panels.js";
import { figure } from "../widgets/figure.js";

export function render(root, { models, refused, signal }) {
  put(
    root,
    h("h1", {}, t("nav.models")),
    h("p", { class: "quiet" }, t("models.lead")),
    fallbacks(models),
    h(
      "div",
      { class: "models" },
      models.map((model) => card(model, signal)),
    ),
    refusals(refused),
  );
}

/** Why CUDA is not used, once for all that say the same. */
function fallbacks(models) {
  const reasons = [...new Set(models.map(({ fallback }) => fallback).filter(Boolean))];
  return reasons.map((reason) =>
    h("p", { class: "quiet small" }, t("models.fallback"), " ", h("span", { lang: "en" }, reason)),
  );
}

function card(model, signal) {
  const figures = h("dl", { class: "figures" });
  write(null);
  detailOf(model).then(
    (detail) => !signal.aborted && write(detail),
    () => {},
  );
  const panel = available([model]).find(({ tasks }) => tasks);
  return h(
    "article",
    { class: "card stack", "aria-label": `${model.name} ${model.version}` },
    h(
      "div",
      { class: "row ends" },
      h("h2", {}, model.name),
      h("span", { class: "chip" }, t("models.version", { version: model.version })),
    ),
    h("p", {}, model.description),
    figures,
    h(
      "div",
      { class: "row" },
      panel &&
        h("a", { href: new URL(`#/${panel.id}?model=${encodeURIComponent(model.name)}`, ROOT) }, t("models.try")),
      h("a", { href: pageOf(model) }, t("models.card")),
    ),
  );

  function write(detail) {
    const facts = [
      [t("models.task"), model.task],
      [t("models.data"), model.data],
      [t("models.device"), model.variant ? `${model.device}, ${model.variant}` : model.device],
      ...versionsOf(model),
      [t("models.batch"), String(model.max_batch)],
      [t("models.waiting"), String(model.queue_depth)],
      ...Object.entries(model.metrics).map(([name, value]) => [
        hasText(`metric.${name}`) ? t(`metric.${name}`) : name,
        figure(name, value, detail),
      ]),
      ...Object.entries(model.other_variants ?? {}).map(([name, reason]) => [t("models.others"), `${name}: ${reason}`]),
    ];
    put(
      figures,
      facts.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))),
    );
  }
}

/** Which versions are loaded, where there are several, with a way to what can be done about them. */
function versionsOf(model) {
  if (model.versions.length < 2) return [];
  const told = model.versions.map(({ version, aliases, share }) => {
    const more = [...aliases, share > 0 && roughly(share)].filter(Boolean).join(", ");
    return more ? `${version} (${more})` : version;
  });
  return [[t("versions.title"), h("a", { href: pageOf(model) }, told.join("; "))]];
}

function refusals(refused) {
  const all = Object.entries(refused);
  if (!all.length) return null;
  return h(
    "section",
    { class: "card stack", "aria-label": t("models.refused") },
    h("h2", {}, t("models.refused")),
    h(
      "ul",
      {},
      all.map(([name, reason]) => h("li", {}, h("strong", {}, name), ": ", h("span", { lang: "en" }, reason))),
    ),
  );
}
