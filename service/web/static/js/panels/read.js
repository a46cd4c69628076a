// Read: a text in, topics out, and the words that decided.

import { call, timingOf } from "../api.js";
import { freshId, h, put } from "../dom.js";
import { number, t } from "../i18n.js";
import { askedAs, detailOf, manifestOf, samplesOf } from "../models.js";
import { nameOf } from "../names.js";
import { createRunner } from "../runner.js";
import { codeView } from "../widgets/code.js";
import { feedback } from "../widgets/feedback.js";
import { chosenModel, heading, section } from "../widgets/frame.js";
import { sampleIn, sampleRow } from "../widgets/samples.js";
import { createStatus } from "../widgets/status.js";
import { timing } from "../widgets/timing.js";
import { words } from "../widgets/words.js";
import { labelAnswer } from "./labels.js";

const SHOWN = 6;
const PATH = "v1/classify-text";
// The server tokenises no more characters of a text, and only counts the words of the rest.
const MOST_CHARACTERS = 100_000;
const PATIENCE = 4; // seconds that an explanation may take unasked

/** @param inside whether it is part of a section of the course, without what surrounds it on its own page. */
export function render(root, { models, settings, memory, signal, again, inside = false }) {
  const model = chosenModel(models, settings);
  const asked = askedAs(model);
  const status = createStatus();
  const explaining = createStatus();
  const answer = h("div", { class: "stack" });
  const explained = h("section", { class: "card stack", "aria-label": t("read.words"), hidden: true });
  const samples = h("div");
  const code = codeView();
  const id = freshId("text");
  const text = h("textarea", { id, rows: 10, ".value": memory.text ?? "" });
  const run = createRunner(classify, status, signal, clear);
  let weighing = new AbortController();
  text.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) submit(event);
  });
  put(
    root,
    !inside && heading("read", { models, model, onchange: change }),
    h(
      "div",
      { class: "columns" },
      h(
        "form",
        { class: "card stack", onsubmit: submit },
        h("label", { for: id }, t("read.text")),
        text,
        h("button", { class: "primary" }, t("read.submit")),
        h("h2", {}, t("samples.title")),
        samples,
      ),
      h(
        "div",
        { class: "stack" },
        section("frame.answer", status.element, answer),
        explained,
      ),
    ),
    !inside && code.element,
  );
  clear();
  begin();

  function clear() {
    weighing.abort();
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
      if (text.value) run(text.value, null);
      else if (found.items.length) pick(sampleIn(found, settings));
    } catch (error) {
      if (!signal.aborted) status.show(error, begin);
    }
  }

  async function pick(sample) {
    settings.set({ sample: sample.index });
    text.value = await (await sample.blob()).text();
    memory.text = null;
    run(text.value, sample.label);
  }

  function submit(event) {
    event.preventDefault();
    memory.text = text.value;
    settings.set({ sample: null });
    run(text.value, null);
  }

  const ask = (query, body, until) =>
    call(PATH, { method: "POST", query, body, headers: { "Content-Type": "text/plain" }, signal: until });

  async function classify(written, truth) {
    weighing.abort();
    if (!written.trim()) {
      clear();
      return;
    }
    const { manifest } = await detailOf(model);
    const sent = written.slice(0, MOST_CHARACTERS);
    const query = { ...asked, top_k: Math.min(1000, manifest.labels.length) };
    const answered = await ask(query, sent, signal);
    const document = await answered.response.json();
    const answering = await manifestOf(document);
    const [result] = document.results;
    const unread = result.cut_off + countWords(written.slice(MOST_CHARACTERS));
    put(
      answer,
      labelAnswer(result, { manifest: answering, settings, shown: SHOWN, truth }),
      h("p", { class: "small" }, reading(result, unread)),
      feedback(answered, document),
      timing(answered, document),
    );
    code.show(answered.sent);
    explained.hidden = !result.labels.length;
    if (explained.hidden) return;
    const which = askedAs({ name: document.model, wanted: document.version });
    offer(result.tokens, timingOf(answered).steps.inference ?? 0, () => weigh(which, sent, answering, unread));
  }

  /** Explains at once what takes a moment; what takes longer waits to be asked for. */
  function offer(tokens, milliseconds, start) {
    const seconds = Math.ceil((tokens * milliseconds) / 1000); // the model runs once for each word
    const values = { words: number(tokens), seconds: number(seconds) };
    const show = (...elements) => put(explained, h("h2", {}, t("read.words")), explaining.element, elements);
    if (seconds <= PATIENCE) begin();
    else
      show(
        h("p", { class: "quiet" }, t("read.long", values)),
        h("button", { type: "button", onclick: begin }, t("read.weigh")),
      );

    async function begin() {
      weighing.abort();
      weighing = new AbortController();
      const own = weighing;
      show();
      explaining.say([h("span", { class: "spin" }), t("read.weighing", values)]);
      try {
        const found = await start();
        if (own.signal.aborted) return;
        explaining.clear();
        show(found);
      } catch (error) {
        if (!own.signal.aborted && !signal.aborted) explaining.show(error, begin);
      }
    }
  }

  async function weigh(which, written, { data }, unread) {
    const until = AbortSignal.any([signal, weighing.signal]);
    const { response } = await ask({ ...which, explain: true, top_k: 1 }, written, until);
    const [result] = (await response.json()).results;
    return words(written, result.words, nameOf(result.labels[0].label, data?.name), unread);
  }
}

/** How much of a text was read. */
function reading({ tokens, unknown }, unread) {
  const said = [
    unread
      ? t("read.beginning", { tokens: number(tokens), all: number(tokens + unread) })
      : t("read.all", { tokens: number(tokens) }),
    unknown > 0 && t("read.unknown", { count: number(unknown) }),
  ];
  return said.filter(Boolean).join(" ");
}

const countWords = (text) => text.split(/\s+/).filter(Boolean).length;
