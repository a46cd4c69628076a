// Latents to pictures.

import { call } from "./api.js";

/** Pictures of latents by the model that the query names: the answer, and what was sent, for the snippets. */
export async function decodeLatents(latents, query, signal) {
  const rounded = latents.map((row) => row.map((value) => Number(value.toFixed(4))));
  const { response, sent } = await call("v1/decode", {
    method: "POST",
    query,
    body: JSON.stringify({ latents: rounded }),
    headers: { "Content-Type": "application/json" },
    signal,
  });
  const { results } = await response.json();
  return { results, sent };
}
