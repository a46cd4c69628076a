// Rows that are pasted or read from a file: one fills the form, several get a table of answers.

import { Problem, call } from "../api.js";
import { parseCsv } from "../csv.js";
import { freshId, h, note, put } from "../dom.js";
import { brief, number, t } from "../i18n.js";
import { askedAs } from "../models.js";
import { nameOf } from "../names.js";
import { createRunner } from "../runner.js";
import { share } from "../widgets/bars.js";
import { downloads } from "../widgets/download.js";
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
  const result = h("section", { class: "card stack", "aria-label": t("rows.answers"), hidden: true });
  const run = createRunner(answer, status, signal, () => {
    result.hidden = true;
  });
  const file = h("input", {
    type: "file",
    accept: ".csv,.tsv,.txt,text/csv",
    class: "visually-hidden",
    onchange: read,
  });
  const entry = h(
    "details",
    { open: Boolean(memory.rows) },
    h("summary", {}, t("rows.title")),
    h(
      "form",
      { class: "stack", onsubmit: submit },
      h("label", { for: id }, t("rows.label")),
      text,
      note(t("rows.hint", { count: manifest.columns.length })),
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
    const { header, rows, body } = tableOf(text.value, manifest.columns);
    if (rows.length === 1) {
      onpick(Object.fromEntries(header.map((name, index) => [name, rows[0][index]])));
      return;
    }
    const answered = await call("v1/predict-tabular", {
      method: "POST",
      query: { ...askedAs(model), top_k: 1 },
      body,
      headers: { "Content-Type": "text/csv" },
      signal,
    });
    show(header, rows, await answered.response.json());
    code.show(answered.sent);
  }

  function show(header, rows, { results, target }) {
    const columns = [
      t("rows.row"),
      target,
      ...(manifest.labels.length ? [t("files.probability")] : []),
      t("examples.input"),
    ];
    const cellsOf = (index) => Object.fromEntries(header.map((name, at) => [name, rows[index][at]]));
    const records = () => results.map((each, index) => ({ ...numbersIn(cellsOf(index)), ...recordOf(each, target) }));
    put(
      result,
      h(
        "div",
        { class: "row ends" },
        h("h2", {}, t("rows.count", { count: number(results.length) })),
        downloads("answers", records),
      ),
      h(
        "div",
        { class: "scroll tall", tabindex: "0", role: "region", "aria-label": t("rows.answers") },
        h(
          "table",
          {},
          h(
            "thead",
            {},
            h(
              "tr",
              {},
              columns.map((each) => h("th", { scope: "col" }, each)),
            ),
          ),
          h("tbody", {}, results.slice(0, SHOWN).map(line)),
        ),
      ),
      results.length > SHOWN &&
        note(t("rows.first", { shown: number(SHOWN), count: number(results.length) })),
    );
    result.hidden = false;

    function line(each, index) {
      const first = each.labels?.[0];
      const level = levelOf(each);
      const open = () => onpick(cellsOf(index));
      return h(
        "tr",
        {},
        h("th", { scope: "row" }, h("button", { type: "button", class: "link", onclick: open }, number(index + 1))),
        h("td", {}, first ? nameOf(first.label, manifest.data?.name) : brief(each.value, 6)),
        first && h("td", {}, share(first.probability)),
        h("td", {}, level && h("span", { class: `level ${level}` }, t(`typicality.${level}`))),
      );
    }
  }
}

/** Cells as numbers where they are. */
const numbersIn = (cells) =>
  Object.fromEntries(
    Object.entries(cells).map(([name, cell]) => [
      name,
      cell !== "" && Number.isFinite(Number(cell)) ? Number(cell) : cell,
    ]),
  );

/** What a row of the download says of an answer. */
function recordOf({ labels, value, typicality }, target) {
  const answer = labels?.length
    ? { [`predicted ${target}`]: labels[0].label, probability: labels[0].probability }
    : { [`predicted ${target}`]: value };
  return { ...answer, typicality: typicality ?? null };
}

/**
 * What is in a pasted text, whose header may be missing; throws a `Problem`.
 *
 * @returns `header` and `rows`, cells each, and the `body` of a request.
 */
function tableOf(text, columns) {
  const { rows: all, delimiter } = parseCsv(text);
  const names = columns.map(({ name }) => name);
  const named = all[0]?.some((cell) => names.includes(cell));
  const header = named ? all[0] : names;
  const rows = named ? all.slice(1) : all;
  if (!rows.length) throw new Problem("problem", { detail: t("rows.none") });
  const bad = rows.findIndex((row) => row.length !== header.length);
  if (bad >= 0) {
    const values = { row: number(bad + 1), found: rows[bad].length, wanted: header.length };
    throw new Problem("problem", { detail: t("rows.cells", values) });
  }
  const line = names.map((name) => `"${name.replaceAll('"', '""')}"`).join(delimiter);
  return { header, rows, body: named ? text : `${line}\n${text}` };
}
