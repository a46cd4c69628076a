// The request that a panel has just made, as curl, Python and JavaScript that run when they are pasted.

import { address, key } from "./api.js";

/**
 * A request as snippets need it: `sent` of `call` says what was sent, and the panel adds where a file came from.
 *
 * @typedef {{path: string, query?: object, media: string, body?: string, document?: any, text?: string, file?: string,
 *            source?: string, saveAs?: string}} Described
 * `body` is a body that is text, and may be given as `document`, sent as JSON, or as `text`; `file` is the name of a
 * file to send, `source` the path of the sample that it is.
 */

export const LANGUAGES = ["curl", "Python", "JavaScript"];

/** @param {Described} described */
export function snippet(language, described) {
  const write = { curl, Python: python, JavaScript: javascript }[language];
  return write({ ...described, ...contentOf(described) });
}

function contentOf({ body, media, document, text }) {
  if (body === undefined) return { document, text };
  return media.startsWith("application/json") ? { document: JSON.parse(body) } : { text: body };
}

const quoted = (text) => `'${String(text).replaceAll("'", `'\\''`)}'`;

const optionsOf = (query) => Object.entries(query ?? {}).filter(([, value]) => value !== null && value !== undefined);

function curl({ path, query, media, file, source, document, text, saveAs }) {
  const authorised = key() ? '-H "Authorization: Bearer $KEY"' : "";
  const lines = [];
  if (source) lines.push(["curl -s", authorised, `-o ${quoted(file)}`, quoted(address(source))].filter(Boolean).join(" "));
  const body = file
    ? `--data-binary @${quoted(file)}`
    : text !== undefined
      ? `--data-raw ${quoted(text)}`
      : document === undefined
        ? "-X POST"
        : `-d ${quoted(JSON.stringify(document))}`;
  const parts = [
    `curl ${body}`,
    media && `-H ${quoted(`Content-Type: ${media}`)}`,
    authorised,
    quoted(address(path, query)) + (saveAs ? ` -o ${saveAs}` : ""),
  ];
  lines.push(parts.filter(Boolean).join(" \\\n  "));
  return lines.join("\n");
}

// Where the operations whose items are a list of the document have that list.
const ITEMS = { "predict-tabular": "rows", decode: "latents", "classify-text": "texts" };

/** By the client of the project, which knows the operations as methods. */
function python({ path, query, file, source, document, text, saveAs }) {
  const operation = path.replace(/^v1\//, "");
  const lines = source ? ["import urllib.request", "", "import quartet", ""] : ["import quartet", ""];
  let item;
  let options = optionsOf(query);
  if (source) {
    const url = JSON.stringify(String(address(source)));
    const authorised = key() ? `urllib.request.Request(${url}, headers={"Authorization": "Bearer …"})` : url;
    lines.push(`with urllib.request.urlopen(${authorised}) as sample:`, "    picture = sample.read()");
    item = "picture";
  } else if (file) {
    item = JSON.stringify(file);
  } else if (text !== undefined) {
    item = JSON.stringify(text);
  } else if (document?.[ITEMS[operation]]) {
    const items = document[ITEMS[operation]];
    item = pythonLiteral(items.length === 1 ? items[0] : items);
  } else {
    options = [...options, ...optionsOf(document)];
  }
  // The client adds the format that it reads.
  const named = options.filter(([name]) => name !== "format").map(([name, value]) => `${name}=${pythonLiteral(value)}`);
  const given = [item, ...named].filter((each) => each !== undefined).join(", ");
  const client = [JSON.stringify(base()), key() && 'api_key="…"'].filter(Boolean).join(", ");
  const method = operation.replaceAll("-", "_");
  lines.push(
    `with quartet.Client(${client}) as client:`,
    saveAs
      ? `    client.${method}_to(${[JSON.stringify(saveAs), given].filter(Boolean).join(", ")})`
      : `    print(client.${method}(${given}))`,
  );
  return lines.join("\n");
}

const base = () => String(address("")).replace(/\/$/, "");

function pythonLiteral(value) {
  if (value === null) return "None";
  if (value === true) return "True";
  if (value === false) return "False";
  if (Array.isArray(value)) return `[${value.map(pythonLiteral).join(", ")}]`;
  if (typeof value === "object") {
    return `{${Object.entries(value)
      .map(([name, each]) => `${JSON.stringify(name)}: ${pythonLiteral(each)}`)
      .join(", ")}}`;
  }
  return JSON.stringify(value);
}

function javascript({ path, query, media, file, source, document, text, saveAs }) {
  const lines = [];
  let body;
  const headers = { ...(media ? { "Content-Type": media } : {}), ...(key() ? { Authorization: "Bearer …" } : {}) };
  if (source) {
    lines.push(`const body = await (await fetch(${JSON.stringify(String(address(source)))})).blob();`);
    body = "body";
  } else if (file) {
    lines.push(`const body = document.querySelector("input[type=file]").files[0];`);
    body = "body";
  } else if (text !== undefined) {
    body = JSON.stringify(text);
  } else if (document !== undefined) {
    body = `JSON.stringify(${JSON.stringify(document)})`;
  }
  lines.push(
    `const response = await fetch(${JSON.stringify(String(address(path, query)))}, {`,
    '  method: "POST",',
    ...(Object.keys(headers).length ? [`  headers: ${JSON.stringify(headers)},`] : []),
    ...(body ? [body === "body" ? "  body," : `  body: ${body},`] : []),
    "});",
    "if (!response.ok) throw new Error((await response.json()).detail);",
    saveAs ? "const picture = URL.createObjectURL(await response.blob());" : "console.log(await response.json());",
  );
  return lines.join("\n");
}
