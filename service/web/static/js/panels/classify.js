// Classify: a picture in, probabilities out, and the set of labels that holds the truth as often as asked.

import { h, put } from "../dom.js";
import { t } from "../i18n.js";
import { askedAs, detailOf, manifestOf } from "../models.js";
import { createRunner } from "../runner.js";
import { codeView } from "../widgets/code.js";
import { chosenModel, heading } from "../widgets/frame.js";
import { createStatus } from "../widgets/status.js";
import { timing } from "../widgets/timing.js";
import { labelAnswer } from "./labels.js";
import { askAbout, pictureInput, pictureOf } from "./picture.js";

const SHOWN = 8;

export function render(root, { models, settings, memory, signal, again }) {
  const model = chosenModel(models, settings);
  const asked = askedAs(model);
  const status = createStatus();
  const answer = h("section", { class: "card stack", "aria-label": t("classify.answer") });
  const clear = () => put(answer, h("p", { class: "quiet" }, t("classify.empty")));
  const code = codeView();
  const run = createRunner(classify, status, signal, clear);
  const input = pictureInput(model, { settings, memory, signal, onpick: run });
  put(
    root,
    heading("classify", { models, model, onchange: change }),
    h(
      "div",
      { class: "columns" },
      h(
        "section",
        { class: "card stack", "aria-label": t("classify.picture") },
        input.picker,
        h("h2", {}, t("samples.title")),
        input.samples,
      ),
      h("div", { class: "stack" }, status.element, answer),
    ),
    code.element,
  );
  clear();
  begin();

  function change(changes) {
    settings.set(changes);
    again();
  }

  async function begin() {
    try {
      await input.offer();
    } catch (error) {
      if (!signal.aborted) status.show(error, begin);
    }
  }

  async function classify(picked) {
    const picture = await pictureOf(picked);
    input.show(picture);
    const { manifest } = await detailOf(model);
    const query = { ...asked, top_k: Math.min(1000, manifest.labels.length) };
    const { answered, document, sent } = await askAbout(picture, picked, "v1/predict", query, signal);
    const elements = labelAnswer(document.results[0], {
      manifest: await manifestOf(document),
      settings,
      shown: SHOWN,
      onmove: (coverage) => code.show({ path: "v1/predict", query: { ...asked, coverage }, ...sent }),
    });
    put(answer, elements, timing(answered, document));
  }
}
