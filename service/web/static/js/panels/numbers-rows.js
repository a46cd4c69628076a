// Rows that are pasted or read from a file: one fills the form, several get a table of answers.

import { Problem, call } from "../api.js";
import { parseCsv, writeCsv } from "../csv.js";
import { freshId, h, put } from "../dom.js";
import { brief, number, t } from "../i18n.js";
import { askedAs } from "../models.js";
import { nameOf } from "../names.js";
import { createRunner } from "../runner.js";
import { share } from "../widgets/bars.js";
import { saveAs } from "../widgets/download.js";
import { createStatus } from "../widgets/status.js";
import { levelOf } from "../widgets/typicality.js";

const SHOWN = 200; // rows

/**
 * @param onpick is given a row for the form, `{column: text}`.
 * @returns `entry`, where rows are pasted, and `result`, the place of their answers.
 */
export function rowsPart({ model, manifest, memory, signal, code, onpick }) {
  const status = createStatus();
  const id = freshId("rows");
  const text = h("textarea", { id, rows: 4, spellcheck: "false", ".value": memory.rows ?? "" });
  const table = h("div", { class: "stack" });
  const result = h("section", { class: "card stack", "aria-label": t("rows.answers"), hidden: true });
  const run = createRunner(answer, status, signal, () => {
    result.hidden = true;
  });
  const file = h("input", { type: "file", accept: ".csv,.tsv,.txt,text/csv", class: "visually-hidden", onchange: read });
  const entry = h(
    "details",
    { open: Boolean(memory.rows) },
    h("summary", {}, t("rows.title")),
    h(
      "form",
      { class: "stack", onsubmit: submit },
      h("label", { for: id }, t("rows.label")),
      text,
      h("p", { class: "quiet small" }, t("rows.hint", { count: manifest.columns.length })),
      h(
        "div",
        { class: "row" },
        h("button", { class: "primary" }, t("rows.submit")),
        h("label", { class: "button" }, t("rows.file"), file),
      ),
      status.element,
    ),
  );
  return { entry, result };

  async function read() {
    if (!file.files.length) return;
    text.value = await file.files[0].text();
    file.value = "";
    run();
  }

  function submit(event) {
    event.preventDefault();
    run();
  }

  async function answer() {
    memory.rows = text.value;
    result.hidden = true;
    const { header, rows } = tableOf(text.value, manifest.columns);
    if (rows.length === 1) {
      onpick(Object.fromEntries(header.map((name, index) => [name, rows[0][index]])));
      return;
    }
    const body = writeCsv([header, ...rows]);
    const query = { ...askedAs(model), top_k: 1 };
    const answered = await call("v1/predict-tabular", {
      method: "POST",
      query,
      body,
      headers: { "Content-Type": "text/csv" },
      signal,
    });
    show(header, rows, await answered.response.json());
    code.show({ path: "v1/predict-tabular", query, media: "text/csv", text: body });
  }

  function show(header, rows, { results, target }) {
    const written = results.map((each) => ({ ...answerOf(each), typicality: each.typicality, level: levelOf(each) }));
    const columns = [t("rows.row"), target, ...(manifest.labels.length ? [t("rows.probability")] : []), t("rows.typical")];
    const line = ({ label, value, probability, level }, index) =>
      h(
        "tr",
        {},
        h("th", { scope: "row" }, h("button", { type: "button", class: "link", onclick: () => pick(index) }, number(index + 1))),
        h("td", {}, label === undefined ? brief(value, 6) : nameOf(label, manifest.data.name)),
        probability !== undefined && h("td", { class: "num" }, share(probability)),
        h("td", {}, level && h("span", { class: `level ${level}` }, t(`typicality.${level}`))),
      );
    const pick = (index) => onpick(Object.fromEntries(header.map((name, at) => [name, rows[index][at]])));
    put(
      table,
      h(
        "div",
        { class: "scroll tall", tabindex: "0", role: "region", "aria-label": t("rows.answers") },
        h(
          "table",
          {},
          h("thead", {}, h("tr", {}, columns.map((each) => h("th", { scope: "col" }, each)))),
          h("tbody", {}, written.slice(0, SHOWN).map(line)),
        ),
      ),
      written.length > SHOWN && h("p", { class: "quiet small" }, t("rows.first", { shown: SHOWN, count: number(written.length) })),
    );
    result.hidden = false;
    put(
      result,
      h(
        "div",
        { class: "row ends" },
        h("h2", {}, t("rows.count", { count: number(written.length) })),
        h("button", { type: "button", onclick: () => save(header, rows, written, target) }, t("rows.download")),
      ),
      table,
    );
  }
}

const answerOf = ({ labels, value }) =>
  labels?.length ? { label: labels[0].label, probability: labels[0].probability } : { value };

/** The rows with their answers, as a CSV file. */
function save(header, rows, written, target) {
  const more = written[0].label === undefined ? ["value"] : ["label", "probability"];
  const fields = [...more, "typicality"];
  const names = [target, ...fields.slice(1)].map((name) => `predicted ${name}`);
  const lines = rows.map((row, index) => [...row, ...fields.map((field) => written[index][field])]);
  saveAs(new Blob([writeCsv([[...header, ...names], ...lines])], { type: "text/csv" }), "answers.csv");
}

/** `{header, rows}` of a pasted text, whose header may be missing; throws a `Problem`. */
function tableOf(text, columns) {
  const [first, ...others] = parseCsv(text);
  if (!first) throw new Problem("problem", { detail: t("rows.none") });
  const names = new Set(columns.map(({ name }) => name));
  const named = first.some((cell) => names.has(cell));
  const header = named ? first : [...names];
  const rows = named ? others : [first, ...others];
  if (!rows.length) throw new Problem("problem", { detail: t("rows.none") });
  const bad = rows.findIndex((row) => row.length !== header.length);
  if (bad < 0) return { header, rows };
  const values = { row: bad + 1, found: rows[bad].length, wanted: header.length };
  throw new Problem("problem", { detail: t("rows.cells", values) });
}
