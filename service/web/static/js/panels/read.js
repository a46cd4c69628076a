// Read: a text in, topics out, and the words that decided.

import { call } from "../api.js";
import { freshId, h, put } from "../dom.js";
import { number, t } from "../i18n.js";
import { askedAs, detailOf, manifestOf, samplesOf } from "../models.js";
import { createRunner } from "../runner.js";
import { codeView } from "../widgets/code.js";
import { chosenModel, heading } from "../widgets/frame.js";
import { sampleIn, sampleRow } from "../widgets/samples.js";
import { createStatus } from "../widgets/status.js";
import { timing } from "../widgets/timing.js";
import { words } from "../widgets/words.js";
import { labelAnswer } from "./labels.js";

const SHOWN = 6;

export function render(root, { models, settings, memory, signal, again }) {
  const model = chosenModel(models, settings);
  const asked = askedAs(model);
  const status = createStatus();
  const explaining = createStatus();
  const answer = h("section", { class: "card stack", "aria-label": t("read.answer") });
  const explained = h("section", { class: "card stack", "aria-label": t("read.words"), hidden: true });
  const samples = h("div");
  const code = codeView();
  const id = freshId("text");
  const text = h("textarea", { id, rows: 10, ".value": memory.text ?? "" });
  const run = createRunner(classify, status, signal, clear);
  const explain = createRunner(weigh, explaining, signal);
  text.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) submit(event);
  });
  put(
    root,
    heading("read", { models, model, onchange: change }),
    h(
      "div",
      { class: "columns" },
      h(
        "div",
        { class: "stack" },
        h(
          "form",
          { class: "card stack", onsubmit: submit },
          h("label", { for: id }, t("read.text")),
          text,
          h("button", { class: "primary" }, t("read.submit")),
          h("h2", {}, t("samples.title")),
          samples,
        ),
      ),
      h("div", { class: "stack" }, status.element, answer, explained),
    ),
    code.element,
  );
  clear();
  begin();

  function clear() {
    put(answer, h("p", { class: "quiet" }, t("read.empty")));
    explained.hidden = true;
  }

  function change(changes) {
    settings.set(changes);
    again();
  }

  async function begin() {
    try {
      const found = await samplesOf(model);
      if (signal.aborted) return;
      put(samples, sampleRow(found, pick));
      if (text.value) run(text.value);
      else if (found.items.length) pick(sampleIn(found, settings));
    } catch (error) {
      if (!signal.aborted) status.show(error, begin);
    }
  }

  async function pick(sample) {
    settings.set({ sample: sample.index });
    text.value = await (await sample.blob()).text();
    memory.text = null;
    run(text.value);
  }

  function submit(event) {
    event.preventDefault();
    memory.text = text.value;
    settings.set({ sample: null });
    run(text.value);
  }

  const ask = (query, body) =>
    call("v1/classify-text", {
      method: "POST",
      query: { ...asked, ...query },
      body,
      headers: { "Content-Type": "text/plain" },
      signal,
    });

  async function classify(written) {
    if (!written.trim()) {
      clear();
      return;
    }
    const { manifest } = await detailOf(model);
    const answered = await ask({ top_k: Math.min(1000, manifest.labels.length) }, written);
    const document = await answered.response.json();
    const [result] = document.results;
    put(
      answer,
      labelAnswer(result, { manifest: await manifestOf(document), settings, shown: SHOWN }),
      h(
        "p",
        { class: "quiet small" },
        t("read.read", { tokens: number(result.tokens), unknown: number(result.unknown), cut: number(result.cut_off) }),
      ),
      timing(answered, document),
    );
    code.show({ path: "v1/classify-text", query: { ...asked, explain: true }, media: "text/plain", text: written });
    explained.hidden = false;
    explain(written);
  }

  async function weigh(written) {
    put(explained, h("h2", {}, t("read.words")), explaining.element);
    const { response } = await ask({ explain: true, top_k: 1 }, written);
    const [result] = (await response.json()).results;
    put(
      explained,
      h("h2", {}, t("read.words")),
      explaining.element,
      words(written, result.words, result.labels[0].label),
    );
  }
}
