// Latents to pictures.

import { call } from "./api.js";

/** Pictures of latents by the model that the query names: the answer, and a description of the request for the snippets. */
export async function decodeLatents(latents, query, signal) {
  const rounded = latents.map((row) => row.map((value) => Number(value.toFixed(4))));
  const document = { latents: rounded };
  const media = "application/json";
  const { response } = await call("v1/decode", {
    method: "POST",
    query,
    body: JSON.stringify(document),
    headers: { "Content-Type": media },
    signal,
  });
  const { results } = await response.json();
  return { results, described: { path: "v1/decode", query, media, document } };
}
