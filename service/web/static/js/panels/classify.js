// Classify: a picture in, probabilities out, and the set of labels that holds the truth as often as asked.

import { h, put } from "../dom.js";
import { number, t } from "../i18n.js";
import { askedAs, detailOf, manifestOf } from "../models.js";
import { createRunner } from "../runner.js";
import { codeView } from "../widgets/code.js";
import { feedback } from "../widgets/feedback.js";
import { chosenModel, heading, section } from "../widgets/frame.js";
import { createStatus } from "../widgets/status.js";
import { timing } from "../widgets/timing.js";
import { fileTable } from "./classify-files.js";
import { labelAnswer } from "./labels.js";
import { askAbout, pictureInput, pictureOf } from "./picture.js";

const SHOWN = 8;

/** @param inside whether it is part of a section of the course, without what surrounds it on its own page. */
export function render(root, { models, settings, memory, signal, again, inside = false }) {
  const model = chosenModel(models, settings);
  const status = createStatus();
  const answer = h("div", { class: "stack" }, h("p", { class: "quiet" }, t("classify.empty")));
  const code = codeView();
  const run = createRunner(classify, status, signal, () => put(answer));
  const input = pictureInput(model, { settings, memory, signal, onpick: run, onfiles });
  let table = null; // of the answers to several files
  put(
    root,
    !inside && heading("classify", { models, model, onchange: change }),
    h(
      "div",
      { class: "columns" },
      section(
        "files.picture",
        input.picker,
        h("h2", {}, t("samples.title")),
        input.samples,
      ),
      section("frame.answer", status.element, answer),
    ),
    !inside && code.element,
  );
  begin();

  function change(changes) {
    settings.set(changes);
    again();
  }

  async function begin() {
    try {
      await input.offer({ pick: !memory.files });
      if (memory.files && !signal.aborted) onfiles(memory.files);
    } catch (error) {
      if (!signal.aborted) status.show(error, begin);
    }
  }

  async function queryOf() {
    const { manifest } = await detailOf(model);
    return { ...askedAs(model), top_k: Math.min(1000, manifest.labels.length) };
  }

  async function classify(picked) {
    const picture = await pictureOf(picked);
    input.show(picture);
    const { answered, document, described } = await askAbout(picture, picked, "v1/predict", await queryOf(), signal);
    const elements = labelAnswer(document.results[0], {
      manifest: await manifestOf(document),
      settings,
      shown: SHOWN,
      truth: picked.sample?.label,
    });
    if (!memory.files?.includes(picked.file)) memory.files = null;
    const back = h("button", { type: "button", onclick: () => put(answer, table) }, t("files.back"));
    put(answer, memory.files && back, elements, feedback(answered, document), timing(answered, document));
    code.show(described);
  }

  function onfiles(files) {
    memory.files = files;
    table = fileTable(files, {
      ask: async (file) => askAbout(file, { file }, "v1/predict", await queryOf(), signal),
      onpick: (file) => input.choose({ file }),
      ondescribed: code.show,
      signal,
    });
    status.clear();
    input.say(t("files.picked", { count: number(files.length) }));
    put(answer, table);
  }
}
