// Models: what is served, what each model knows and how good it is, and what was refused.

import { ROOT } from "../api.js";
import { h, note, put } from "../dom.js";
import { hasText, number, roughly, t } from "../i18n.js";
import { detailOf, pageOf } from "../models.js";
import { available } from "../panels.js";
import { figure } from "../widgets/figure.js";
import { section } from "../widgets/frame.js";
import { knows } from "../widgets/knows.js";

export function render(root, { models, refused, disagreeing, signal }) {
  put(
    root,
    h("h1", {}, t("nav.models")),
    h("p", { class: "quiet" }, t("models.lead")),
    fallbacks(models),
    disagreements(disagreeing),
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
    note(t("models.fallback"), " ", h("span", { lang: "en" }, reason)),
  );
}

/** Where to try a model. */
export function tryLink(model) {
  const panel = available([model]).find(({ tasks }) => tasks);
  if (!panel) return null;
  const query = new URLSearchParams({ model: model.name });
  return h("a", { class: "button primary", href: new URL(`#/${panel.id}?${query}`, ROOT) }, t("models.try"));
}

/** The name of a model's task, in the page's language. */
export const taskOf = ({ task }) => (hasText(`task.${task}`) ? t(`task.${task}`) : task);

function card(model, signal) {
  const known = h("div");
  const quality = h("div", { class: "stack" });
  const versions = versionsOf(model);
  write(null);
  detailOf(model).then(
    (detail) => {
      if (signal.aborted) return;
      put(known, knows(detail.manifest) ?? "", !tryLink(model) && figures(tensorsOf(model, detail.manifest)));
      write(detail);
    },
    () => {},
  );
  return h(
    "article",
    { class: "card stack", "aria-label": `${model.name} ${model.version}` },
    h(
      "div",
      { class: "row ends" },
      h("h2", {}, model.name),
      h("span", { class: "chip small" }, t("models.version", { version: model.version })),
    ),
    note([taskOf(model), model.data].filter(Boolean).join(" · ")),
    known,
    quality,
    versions.length > 0 && figures(versions),
    h(
      "div",
      { class: "row actions" },
      tryLink(model),
      h("a", { class: "button", href: pageOf(model) }, t("nav.card")),
    ),
    h("details", {}, h("summary", {}, t("models.details")), figures(factsOf(model))),
  );

  function write(detail) {
    const measured = Object.entries(model.metrics).map(([name, value]) => [
      nameOfMetric(name),
      figure(name, value, detail),
    ]);
    put(
      quality,
      figures(measured, "figures measured"),
      model.variant !== "reference" &&
        note(t("models.variant", { variant: model.variant })),
      detail?.manifest.adopted && !measured.length && note(t("models.unmeasured")),
    );
  }
}

const nameOfMetric = (name) => (hasText(`metric.${name}`) ? t(`metric.${name}`) : name);

const figures = (facts, style = "figures") =>
  h(
    "dl",
    { class: style },
    facts.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))),
  );

function factsOf(model) {
  return [
    [t("models.description"), h("span", { lang: "en" }, model.description)],
    [t("models.device"), model.variant ? `${model.device}, ${model.variant}` : model.device],
    [t("models.batch"), number(model.max_batch)],
    [t("models.waiting"), number(model.queue_depth)],
    ...Object.entries(model.other_variants ?? {}).map(([name, reason]) => [
      t("models.others"),
      h("span", { lang: "en" }, `${name}: ${reason}`),
    ]),
  ];
}

/** The inputs and outputs of a model that has no panel here, and the route that takes them. */
function tensorsOf(model, { inputs, outputs }) {
  const described = (specs) =>
    specs.map(({ name, dtype, shape }) =>
      h("div", {}, h("code", {}, `${name}: ${dtype} [${shape.map((size) => (size < 0 ? "?" : size)).join(", ")}]`)),
    );
  return [
    [t("models.inputs"), described(inputs)],
    [t("models.outputs"), described(outputs)],
    [t("models.route"), h("code", {}, `POST /v2/models/${model.name}/infer`)],
  ];
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

/** Models of which the processes of the server have different versions, for a moment. */
function disagreements(disagreeing) {
  return Object.entries(disagreeing).map(([name, said]) =>
    h(
      "div",
      { class: "notice stack" },
      h("p", {}, t("models.disagreeing", { name })),
      h(
        "ul",
        { class: "small", lang: "en" },
        said.map((each) => h("li", {}, each)),
      ),
    ),
  );
}

function refusals(refused) {
  const all = Object.entries(refused);
  if (!all.length) return null;
  return section(
    "models.refused",
    h("h2", {}, t("models.refused")),
    h(
      "ul",
      {},
      all.map(([name, reason]) => h("li", {}, h("strong", {}, name), ": ", h("span", { lang: "en" }, reason))),
    ),
  );
}
