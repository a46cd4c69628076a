// Numbers: a form of the model's columns, the answer for it, and what moves the answer.

import { call, json } from "../api.js";
import { freshId, h, put } from "../dom.js";
import { brief, t } from "../i18n.js";
import { askedAs, detailOf, manifestOf, samplesOf } from "../models.js";
import { createRunner } from "../runner.js";
import { bars, share } from "../widgets/bars.js";
import { codeView } from "../widgets/code.js";
import { typicality } from "../widgets/typicality.js";
import { chosenModel, heading } from "../widgets/frame.js";
import { ranges } from "../widgets/ranges.js";
import { sampleRow } from "../widgets/samples.js";
import { createStatus } from "../widgets/status.js";
import { timing } from "../widgets/timing.js";

const SHOWN = 8; // labels

export function render(root, { models, settings, signal, again }) {
  const model = chosenModel(models, settings);
  const asked = askedAs(model);
  const status = createStatus();
  const answer = h("section", { class: "card stack", "aria-label": t("numbers.answer") });
  const form = h("form", {
    class: "card stack",
    onsubmit: (event) => event.preventDefault(),
    "aria-label": t("numbers.form"),
  });
  const samples = h("div");
  const code = codeView();
  const run = createRunner(predict, status, signal);
  const inputs = new Map(); // by column
  put(
    root,
    heading("numbers", { models, model, onchange: change }),
    h("div", { class: "columns" }, form, h("div", { class: "stack" }, status.element, answer)),
    code.element,
  );
  begin();

  function change(changes) {
    settings.set(changes);
    again();
  }

  async function begin() {
    try {
      const { manifest } = await detailOf(model);
      const found = await samplesOf(model);
      if (signal.aborted) return;
      put(
        form,
        h("h2", {}, t("numbers.columns", { count: manifest.columns.length })),
        samples,
        h(
          "div",
          { class: "grid" },
          manifest.columns.map((column, index) => field(column, index, manifest)),
        ),
      );
      put(
        samples,
        sampleRow(found, (sample) => pick(sample, manifest)),
      );
      const changed = settings.entries().filter(([name]) => /^c\d+$/.test(name));
      const wanted = settings.get("sample") ?? (found.items.length ? await leastCertain(found.items) : 0);
      if (found.items.length) await pick(found.items[wanted] ?? found.items[0], manifest, changed);
      else run(manifest);
    } catch (error) {
      if (!signal.aborted) status.show(error, begin);
    }

    function field(column, index, manifest) {
      const id = freshId("column");
      const hint = freshId("hint");
      const input = inputFor(column, { id, "aria-describedby": hint });
      input.addEventListener("input", () => {
        settings.set({ [`c${index}`]: input.value === "" ? "-" : input.value });
        mark(column, input);
        run(manifest);
      });
      inputs.set(column.name, input);
      return h(
        "div",
        { class: "field" },
        h("label", { for: id }, column.name),
        input,
        h(
          "span",
          { id: hint, class: "quiet small" },
          isNumber(column) ? t("numbers.range", { low: brief(column.low), high: brief(column.high) }) : "",
        ),
      );
    }
  }

  /** The sample of which least can be told, so that there is something to move. */
  async function leastCertain(items) {
    const rows = (await Promise.all(items.map((item) => item.json()))).flatMap((document) => document.rows);
    const headers = { "Content-Type": "application/json" };
    const { results } = await json("v1/predict-tabular", {
      method: "POST",
      query: asked,
      body: JSON.stringify({ rows }),
      headers,
      signal,
    });
    const certain = results.map(({ labels }) => labels?.[0].probability ?? 0);
    return certain.indexOf(Math.min(...certain));
  }

  async function pick(sample, manifest, changed = null) {
    const { rows } = await sample.json();
    if (changed === null) settings.set(Object.fromEntries(manifest.columns.map((_, index) => [`c${index}`, null])));
    settings.set({ sample: sample.index });
    for (const column of manifest.columns) enter(inputs.get(column.name), rows[0][column.name] ?? "");
    for (const [name, value] of changed ?? []) {
      const column = manifest.columns[Number(name.slice(1))];
      if (column) enter(inputs.get(column.name), value === "-" ? "" : value);
    }
    for (const column of manifest.columns) mark(column, inputs.get(column.name));
    run(manifest);
  }

  async function predict(manifest) {
    const row = Object.fromEntries(manifest.columns.map((each) => [each.name, valueOf(each, inputs.get(each.name))]));
    // The same row twice more for each column, with that column at the ends of its range, or with its first two words.
    const movable = manifest.columns.filter((column) => isNumber(column) || column.values.length > 1);
    const others = movable.flatMap((column) => {
      const [low, high] = isNumber(column) ? [column.low, column.high] : column.values;
      return [
        { ...row, [column.name]: low },
        { ...row, [column.name]: high },
      ];
    });
    const query = { ...asked, top_k: Math.min(1000, Math.max(1, manifest.labels.length)) };
    const headers = { "Content-Type": "application/json" };
    const body = JSON.stringify({ rows: [row, ...others] });
    const answered = await call("v1/predict-tabular", { method: "POST", query, body, headers, signal });
    const document = await answered.response.json();
    const [result, ...ends] = document.results;
    const label = result.labels?.[0].label;
    const moved = movable.map(({ name }, index) => ({
      name,
      low: answerOf(ends[2 * index], label),
      high: answerOf(ends[2 * index + 1], label),
    }));
    put(
      answer,
      h("h2", {}, document.target),
      typicality(result, await manifestOf(document)),
      result.labels
        ? bars(result.labels.slice(0, SHOWN), new Set([result.labels[0].label]))
        : h("p", { class: "large-number" }, brief(result.value, 6)),
      h("h3", {}, t("numbers.moves")),
      h("p", { class: "quiet small" }, label ? t("numbers.probability", { label }) : t("numbers.value")),
      ranges(moved, answerOf(result, label), label ? share : (value) => brief(value, 3), label ? [0, 1] : null),
      timing(answered, document),
    );
    code.show({
      path: "v1/predict-tabular",
      query: asked,
      media: "application/json",
      document: { rows: [row] },
    });
  }
}

const brief4 = (value) => String(Number(value.toPrecision(4)));

const isNumber = (column) => column.kind === "number";

/** A field for numbers, a list of the words that a column has, or a field for text. */
function inputFor(column, attributes) {
  if (column.values.length)
    return h(
      "select",
      attributes,
      ["", ...column.values].map((word) => h("option", { value: word }, word)),
    );
  // A number with a unit or a decimal comma is text.
  const plain = isNumber(column) && !column.unit && !column.group && column.decimal === ".";
  return plain
    ? h("input", { ...attributes, type: "number", step: "any", ".value": brief4(column.mean) })
    : h("input", { ...attributes, type: "text" });
}

/** Enters a value; a word that a list does not have is added to it. */
function enter(input, value) {
  if (input.options && ![...input.options].some((option) => option.value === value))
    input.append(h("option", { value }, value));
  input.value = value;
}

const valueOf = (column, input) =>
  input.value === "" ? null : input.type === "number" ? Number(input.value) : input.value;

/** Says of a value that it lies beyond those of the training rows. */
function mark(column, input) {
  if (input.type !== "number") return;
  const value = valueOf(column, input);
  const outside = value !== null && (value < column.low || value > column.high);
  input.classList.toggle("outside", outside);
  input.title = outside ? t("numbers.outside") : "";
}

/** The probability of a label, or the number. */
const answerOf = (result, label) =>
  label ? (result.labels.find((each) => each.label === label)?.probability ?? 0) : result.value;
