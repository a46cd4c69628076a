// Numbers: a form of the model's columns, the answer for it, what speaks for it, and answers for many rows.

import { call, json } from "../api.js";
import { h, note, put } from "../dom.js";
import { brief, t } from "../i18n.js";
import { askedAs, detailOf, manifestOf, samplesOf } from "../models.js";
import { nameOf } from "../names.js";
import { createRunner } from "../runner.js";
import { bars } from "../widgets/bars.js";
import { codeView } from "../widgets/code.js";
import { contributions, legend } from "../widgets/contributions.js";
import { feedback } from "../widgets/feedback.js";
import { chosenModel, heading, section } from "../widgets/frame.js";
import { sampleRow } from "../widgets/samples.js";
import { createStatus } from "../widgets/status.js";
import { timing } from "../widgets/timing.js";
import { isDoubtful, levelOf, typicality } from "../widgets/typicality.js";
import { trueLabel, verdict } from "./labels.js";
import { columnForm } from "./numbers-form.js";
import { rowsPart } from "./numbers-rows.js";

const SHOWN = 8; // labels
const CERTAIN = 1e-6; // the smallest probability that answers tell from 0
const PATH = "v1/predict-tabular";

/** @param inside whether it is part of a section of the course, without what surrounds it on its own page. */
export function render(root, { models, settings, memory, signal, again, inside = false }) {
  const model = chosenModel(models, settings);
  const asked = askedAs(model);
  const status = createStatus();
  const now = h("section", { class: "card stack now", "aria-live": "polite", "aria-label": t("frame.answer") });
  const details = h("section", { class: "card stack", "aria-label": t("numbers.details"), hidden: true });
  const inputs = h("div", { class: "stack inputs" });
  const code = codeView();
  const run = createRunner(predict, status, signal, clear);
  const explaining = createStatus();
  const explain = createRunner(weigh, explaining, signal);
  const explained = h("div", { class: "stack" });
  let truth = null; // the true label of the row, while it is a sample's
  let form = null;
  let manifest = null;
  put(
    root,
    !inside && heading("numbers", { models, model, onchange: change }),
    h("div", { class: "numbers" }, inputs, h("div", { class: "answers" }, now, details)),
    !inside && code.element,
  );
  clear();
  begin();

  function change(changes) {
    settings.set(changes);
    again();
  }

  function clear() {
    put(now, h("h2", {}, t("frame.answer")), status.element);
    details.hidden = true;
  }

  async function begin() {
    try {
      ({ manifest } = await detailOf(model));
      const found = await samplesOf(model);
      if (signal.aborted) return;
      form = columnForm(manifest.columns, (index, value) => {
        settings.set({ [`c${index}`]: value === "" ? "-" : value });
        truth = null;
        run();
      });
      const rows = rowsPart({ model, manifest, memory, signal, code, onpick: fill });
      put(
        inputs,
        section(
          "samples.title",
          h("h2", {}, t("numbers.start")),
          sampleRow(found, pick),
          !inside && rows.entry,
        ),
        rows.result,
        form.element,
      );
      const changed = settings.entries().filter(([name]) => /^c\d+$/.test(name));
      const wanted = settings.get("sample") ?? (found.items.length ? await leastCertain(found.items) : 0);
      if (found.items.length) await pick(found.items[wanted] ?? found.items[0], changed);
      else run();
    } catch (error) {
      if (!signal.aborted) status.show(error, begin);
    }
  }

  const queryOf = (which) => ({ ...which, top_k: Math.min(1000, Math.max(1, manifest.labels.length)) });

  const ask = (which, rows) =>
    call(PATH, {
      method: "POST",
      query: queryOf(which),
      body: JSON.stringify({ rows }),
      headers: { "Content-Type": "application/json" },
      signal,
    });

  /** The sample of which least can be told, so that there is something to move. */
  async function leastCertain(items) {
    const rows = (await Promise.all(items.map((item) => item.json()))).flatMap((document) => document.rows);
    const { results } = await (await ask(asked, rows)).response.json();
    const certain = results.map(({ labels }) => labels?.[0].probability ?? 0);
    return certain.indexOf(Math.min(...certain));
  }

  /** Enters a sample; `changed` are settings of single columns, which win. */
  async function pick(sample, changed = []) {
    const { rows } = await sample.json();
    settings.set(Object.fromEntries(manifest.columns.map((_, index) => [`c${index}`, null])));
    settings.set({ sample: sample.index, ...Object.fromEntries(changed) });
    truth = changed.length ? null : sample.label;
    form.enter(rows[0]);
    for (const [name, value] of changed) {
      const column = manifest.columns[Number(name.slice(1))];
      if (column) form.enter({ [column.name]: value === "-" ? "" : value });
    }
    run();
  }

  /** Enters a pasted row, `{column: text}`. */
  function fill(cells) {
    const given = manifest.columns.map(({ name }, index) => [`c${index}`, cells[name] || "-"]);
    settings.set({ sample: null, ...Object.fromEntries(given) });
    form.enter(cells);
    truth = null;
    run();
  }

  async function predict() {
    const row = form.row();
    const answered = await ask(asked, [row]);
    const document = await answered.response.json();
    const answering = await manifestOf(document);
    const [result] = document.results;
    put(now, summary(result, document.target, answering, truth), status.element);
    details.hidden = false;
    put(
      details,
      result.labels?.length > 1 &&
        bars(result.labels.slice(0, SHOWN), new Set([result.labels[0].label]), {
          data: answering.data?.name,
          muted: isDoubtful(result),
        }),
      typicality(result, answering),
      feedback(answered, document),
      answering.adopted && result.labels && note(t("labels.uncalibrated")),
      h("h3", {}, t("numbers.moves")),
      explaining.element,
      explained,
      timing(answered, document),
    );
    code.show(answered.sent);
    explain(row, document, answering);
  }

  /** Asks the version that has answered once more for each column, without its value, or with a typical one. */
  async function weigh(row, { model: name, version, results: [result] }, answering) {
    const filled = manifest.columns.filter(
      (column) => row[column.name] !== null && baselineOf(column) !== undefined,
    );
    if (!filled.length) {
      const needed = manifest.columns.some((column) => column.required);
      put(explained, needed && note(t("numbers.needed")));
      return;
    }
    const without = filled.map((column) => ({ ...row, [column.name]: baselineOf(column) }));
    const { results } = await (await ask(askedAs({ name, wanted: version }), without)).response.json();
    const label = result.labels?.[0].label;
    const score = scoreOf(result, label);
    const parts = filled.map((column, index) => ({
      name: column.name,
      weight: score - scoreOf(results[index], label),
    }));
    const readable = label === undefined ? null : nameOf(label, answering.data?.name);
    put(
      explained,
      note(
        readable === null ? t("numbers.value") : t("numbers.odds"),
        filled.some((column) => column.required) && ` ${t("numbers.typical")}`,
        // What a model that was trained elsewhere does without a number is not known.
        !answering.adopted && ` ${t("numbers.mean")}`,
      ),
      legend(readable),
      contributions(parts, readable === null ? { show: (weight) => brief(weight, 3), least: 0 } : {}),
    );
  }
}

/** What a column's value is compared with: none, or a typical number; undefined if the model needs one of its words. */
const baselineOf = ({ required, typical }) => (required ? typical : null);

/** The answer in a line. */
function summary(result, target, manifest, truth) {
  const level = levelOf(result);
  const first = result.labels?.[0];
  return h(
    "div",
    { class: "summary" },
    note(target),
    first
      ? verdict(first, result, manifest.data?.name)
      : h(
          "h2",
          { class: "verdict" },
          h("span", { class: isDoubtful(result) ? "value doubtful" : null }, brief(result.value, 6)),
        ),
    first && truth !== null && trueLabel(truth, first.label, manifest.data?.name),
    level && h("p", { class: `level small ${level}` }, t(`typicality.${level}`)),
  );
}

/** What columns move: the log-odds of a label, or the number. */
function scoreOf(result, label) {
  if (label === undefined) return result.value;
  const found = result.labels.find((each) => each.label === label)?.probability ?? 0;
  const probability = Math.min(1 - CERTAIN, Math.max(CERTAIN, found));
  return Math.log(probability / (1 - probability));
}
