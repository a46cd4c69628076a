// What is served: the list, each model's manifest, and its samples.

import { ROOT, blob, json } from "./api.js";

/** `{models, refused, disagreeing}`: each model once, as its default version, with all that are loaded in `versions`. */
export async function listModels() {
  const { models, refused, disagreeing } = await json("v1/models");
  const byName = [...Map.groupBy(models, ({ name }) => name).values()];
  return {
    models: byName.map((versions) => ({ ...(versions.find((each) => each.default) ?? versions[0]), versions })),
    refused,
    disagreeing,
  };
}

/** A model as one of its loaded versions, by number or alias; as its default version where it has no such. */
export function versionOf(model, wanted) {
  const found = model.versions.find(({ version, aliases }) => version === wanted || aliases.includes(wanted));
  return found ? { ...found, versions: model.versions, wanted } : model;
}

const details = new Map();

const pathOf = (model) => `v1/models/${encodeURIComponent(model.name)}/${encodeURIComponent(model.version)}`;

/** A version with its manifest, asked for once. */
export function detailOf(model) {
  const path = pathOf(model);
  if (!details.has(path)) {
    const asked = json(path);
    details.set(path, asked);
    asked.catch(() => details.delete(path));
  }
  return details.get(path);
}

/** The manifest of the version that gave an answer; with a canary it need not be the one that was expected. */
export async function manifestOf({ model, version }) {
  return (await detailOf({ name: model, version })).manifest;
}

/** Samples of a version: `{data, items}`, each with its path, its media type, its true label and how to get it. */
export async function samplesOf(model) {
  const path = `${pathOf(model)}/samples`;
  const { data, media_types: types, labels } = await json(path);
  const items = types.map((mediaType, index) => ({
    index,
    mediaType,
    label: labels?.[index] ?? null,
    path: `${path}/${index}`,
    blob: () => blob(`${path}/${index}`),
    json: () => json(`${path}/${index}`),
  }));
  return { data, items };
}

export const reportPath = (model, file) => `${pathOf(model)}/report${file ? `/${encodeURIComponent(file)}` : ""}`;

/** The address of a version's page. */
export const pageOf = ({ name, version }) =>
  new URL(`models/${encodeURIComponent(name)}/${encodeURIComponent(version)}`, ROOT);

/** The query that asks a model: its name, with the version or alias that somebody chose. */
export const askedAs = ({ name, wanted }) => ({ model: wanted ? `${name}/${wanted}` : name });
