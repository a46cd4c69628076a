// Calls predict with types that were made from the OpenAPI document, and reads an answer and a problem.

import { readFile } from "node:fs/promises";
import createClient from "openapi-fetch";
import type { components, paths } from "./schema.js";

type Problem = components["schemas"]["Problem"];

const [url, path] = process.argv.slice(2);
const client = createClient<paths>({ baseUrl: url });
const image = (await readFile(path)).toString("base64");

async function labelOf(top_k: number): Promise<string> {
  const { data, error } = await client.POST("/v1/predict", {
    params: { query: { top_k } },
    body: { images: [image] },
  });
  if (data) return data.results[0].labels[0].label;
  const problem: Problem = error;
  return `${problem.status} ${problem.code} ${problem.errors?.[0].parameter}`;
}

console.log(await labelOf(1));
console.log(await labelOf(0));
