// The request that a panel has just made, as curl, Python and JavaScript that run when they are pasted.

import { address, key } from "./api.js";

/**
 * A request as snippets need it.
 *
 * @typedef {{path: string, query?: object, media: string, file?: string, source?: string, document?: any,
 *            text?: string, saveAs?: string}} Described
 * `file` is the name of a file to send, `source` the path of the sample that it is; `document` is sent as JSON.
 */

export const LANGUAGES = ["curl", "Python", "JavaScript"];

export function snippet(language, described) {
  return { curl, Python: python, JavaScript: javascript }[language](described);
}

const quoted = (text) => `'${String(text).replaceAll("'", `'\\''`)}'`;

function curl({ path, query, media, file, source, document, text, saveAs }) {
  const lines = [];
  if (source)
    lines.push(
      `curl -s ${authorised('-H "Authorization: Bearer $KEY" ')}-o ${quoted(file)} ${quoted(address(source))}`,
    );
  const body = file
    ? `--data-binary @${quoted(file)}`
    : text !== undefined
      ? `--data-raw ${quoted(text)}`
      : `-d ${quoted(JSON.stringify(document))}`;
  lines.push(
    [
      `curl ${body}`,
      `-H ${quoted(`Content-Type: ${media}`)}`,
      authorised(`-H "Authorization: Bearer $KEY"`),
      quoted(address(path, query)) + (saveAs ? ` -o ${saveAs}` : ""),
    ]
      .filter(Boolean)
      .join(" \\\n  "),
  );
  return lines.join("\n");
}

const authorised = (text) => (key() ? text : "");

function python({ path, query, media, file, source, document, text, saveAs }) {
  const lines = [
    "import httpx",
    "",
    `client = httpx.Client(base_url=${JSON.stringify(base())}${authorised(', headers={"Authorization": "Bearer …"}')})`,
  ];
  let body;
  if (source) {
    lines.push(`data = client.get(${JSON.stringify(`/${source}`)}).raise_for_status().content`);
    body = "content=data";
  } else if (file) {
    lines.push(`with open(${JSON.stringify(file)}, "rb") as file:`, "    data = file.read()");
    body = "content=data";
  } else if (text !== undefined) {
    body = `content=${JSON.stringify(text)}`;
  } else {
    body = `json=${pythonLiteral(document)}`;
  }
  const parts = [JSON.stringify(`/${path}`)];
  const params = Object.entries(query ?? {}).filter(([, value]) => value !== null && value !== undefined);
  if (params.length) parts.push(`params=${pythonLiteral(Object.fromEntries(params))}`);
  parts.push(body);
  if (document === undefined) parts.push(`headers={"Content-Type": ${JSON.stringify(media)}}`);
  lines.push("answer = client.post(", ...parts.map((part) => `    ${part},`), ").raise_for_status()");
  if (saveAs) lines.push(`with open(${JSON.stringify(saveAs)}, "wb") as file:`, "    file.write(answer.content)");
  else lines.push("print(answer.json())");
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
  const headers = { "Content-Type": media, ...(key() ? { Authorization: "Bearer …" } : {}) };
  if (source) {
    lines.push(`const body = await (await fetch(${JSON.stringify(String(address(source)))})).blob();`);
    body = "body";
  } else if (file) {
    lines.push(`const body = document.querySelector("input[type=file]").files[0];`);
    body = "body";
  } else {
    body = text !== undefined ? JSON.stringify(text) : `JSON.stringify(${JSON.stringify(document)})`;
  }
  lines.push(
    `const response = await fetch(${JSON.stringify(String(address(path, query)))}, {`,
    '  method: "POST",',
    `  headers: ${JSON.stringify(headers)},`,
    body === "body" ? "  body," : `  body: ${body},`,
    "});",
    "if (!response.ok) throw new Error((await response.json()).detail);",
    saveAs ? "const picture = URL.createObjectURL(await response.blob());" : "console.log(await response.json());",
  );
  return lines.join("\n");
}
