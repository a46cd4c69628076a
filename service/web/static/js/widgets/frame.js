// What every panel has: its title, a sentence, what its model knows, and the model and version to ask; and sections.

import { h, put } from "../dom.js";
import { roughly, t } from "../i18n.js";
import { detailOf, versionOf } from "../models.js";
import { choice } from "./choice.js";
import { knows } from "./knows.js";

const ROUTED = ""; // the version is the server's choice

/**
 * The heading of a panel, with a choice of models where there are several, and of versions where the model has several.
 *
 * @param onchange is given the settings that change.
 */
export function heading(id, { models, model, onchange }) {
  return h(
    "div",
    { class: "headline" },
    h("div", {}, h("h1", {}, t(`nav.${id}`)), h("p", { class: "quiet" }, t(`${id}.lead`)), known(model)),
    h("div", { class: "row" }, modelChoice(models, model, onchange), versionChoice(model, onchange)),
  );
}

/** What the model knows, as soon as its manifest is there; a panel says itself where that fails. */
function known(model) {
  const place = h("div");
  detailOf(model).then(
    ({ manifest }) => put(place, knows(manifest) ?? ""),
    () => {},
  );
  return place;
}

function modelChoice(models, model, onchange) {
  if (models.length < 2) return null;
  const options = models.map(({ name }) => [name, name]);
  return choice(t("frame.model"), options, model.name, (name) => onchange({ model: name, version: null }));
}

function versionChoice({ versions, wanted = ROUTED }, onchange) {
  if (versions.length < 2) return null;
  const options = [
    [ROUTED, t("frame.routed", { versions: shares(versions) })],
    ...versions.flatMap(({ version, aliases }) => aliases.map((alias) => [alias, `${alias} (${version})`])),
    ...versions.map(({ version }) => [version, version]),
  ];
  return choice(t("frame.version"), options, wanted, (version) => onchange({ version }));
}

/** Which versions answer, with their shares where there are several. */
function shares(versions) {
  const serving = versions.filter(({ share }) => share > 0);
  return (
    serving.map(({ version, share }) => (share < 1 ? `${version} (${roughly(share)})` : version)).join(", ") || "–"
  );
}

/** The model that the address names, else the first, as the version that it names. */
export function chosenModel(models, settings) {
  return versionOf(models.find(({ name }) => name === settings.get("model")) ?? models[0], settings.get("version"));
}

/** A part of a panel, whose name is a text of the page. */
export const section = (name, ...children) => h("section", { class: "card stack", "aria-label": t(name) }, children);
