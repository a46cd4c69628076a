// What is served: the list, each model's manifest, and its samples.

import { blob, json } from "./api.js";

/** `{models, refused}` as GET /v1/models answers. */
export const listModels = () => json("v1/models");

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

/** Samples of a version: `{data, items}`, each with its path, its media type and how to get it. */
export async function samplesOf(model) {
  const path = `${pathOf(model)}/samples`;
  const { data, media_types: types } = await json(path);
  const items = types.map((mediaType, index) => ({
    index,
    mediaType,
    path: `${path}/${index}`,
    blob: () => blob(`${path}/${index}`),
    json: () => json(`${path}/${index}`),
  }));
  return { data, items };
}

export const reportPath = (model, file) => `${pathOf(model)}/report${file ? `/${encodeURIComponent(file)}` : ""}`;

/** How a model is asked for: by its name, and by its version where several are served. */
export function askedAs(model, models) {
  return models.filter((each) => each.name === model.name).length > 1 ? `${model.name}/${model.version}` : model.name;
}
