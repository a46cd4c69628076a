// Detect: boxes over a picture, and the threshold beside the curve that says what it costs.

import { h, put } from "../dom.js";
import { t } from "../i18n.js";
import { askedAs, detailOf, manifestOf } from "../models.js";
import { createRunner } from "../runner.js";
import { boxView } from "../widgets/boxes.js";
import { codeView } from "../widgets/code.js";
import { familiarity } from "../widgets/familiarity.js";
import { chosenModel, heading } from "../widgets/frame.js";
import { createStatus } from "../widgets/status.js";
import { timing } from "../widgets/timing.js";
import { liveView } from "./detect-live.js";
import { askAbout, pictureInput, pictureOf } from "./picture.js";
import { thresholdView } from "./threshold.js";

// As many boxes as the API answers with; the page leaves out those below the threshold.
const MOST = 1000;

export function render(root, { models, settings, memory, signal, again }) {
  const model = chosenModel(models, settings);
  const asked = askedAs(model);
  const status = createStatus();
  const view = boxView();
  const counts = h("ul", { class: "chips", "aria-label": t("detect.counts") });
  const known = h("div");
  const where = h("div");
  const side = h("div", { class: "stack" });
  const code = codeView();
  const run = createRunner(detect, status, signal, clear);
  const input = pictureInput(model, { settings, memory, signal, onpick: run, compact: true });
  const listed = h("details", { class: "card", hidden: true }, h("summary", {}, t("detect.list")), view.list);
  const result = h(
    "section",
    { class: "card stack", "aria-label": t("detect.answer"), hidden: true },
    view.element,
    known,
    counts,
    where,
  );
  let boxes = [];
  let threshold = null;
  let describe = () => {};
  put(
    root,
    heading("detect", { models, model, onchange: change }),
    h("section", { class: "card input-row", "aria-label": t("detect.picture") }, input.picker, input.samples),
    h("div", { class: "columns wide-left" }, h("div", { class: "stack" }, status.element, result, listed), side),
    live(),
    code.element,
  );
  begin();

  function live() {
    const view = liveView({
      asked,
      detail: () => detailOf(model),
      threshold: () => threshold?.confidence ?? 0.5,
      signal,
    });
    return h("section", { class: "card stack", "aria-label": t("live.title") }, h("h2", {}, t("live.title")), view);
  }

  function change(changes) {
    settings.set({ ...changes, confidence: null });
    again();
  }

  async function begin() {
    try {
      const { manifest } = await detailOf(model);
      if (signal.aborted) return;
      threshold = thresholdView(manifest, settings, filter);
      put(side, h("section", { class: "card stack", "aria-label": t("threshold.title") }, threshold.elements));
      await input.offer();
    } catch (error) {
      if (!signal.aborted) status.show(error, begin);
    }
  }

  function clear() {
    boxes = [];
    result.hidden = true;
    listed.hidden = true;
  }

  async function detect(picked) {
    const picture = await pictureOf(picked);
    if (picked.file) input.show(picture);
    const { manifest } = await detailOf(model);
    const query = { ...asked, confidence: manifest.suppression.floor, max_detections: MOST };
    const { answered, document, sent } = await askAbout(picture, picked, "v1/detect", query, signal);
    const [found] = document.results;
    const { width, height, boxes: all } = found;
    boxes = all;
    result.hidden = false;
    listed.hidden = false;
    view.show(picture, width, height);
    put(known, familiarity(found, await manifestOf(document)));
    put(where, timing(answered, document));
    filter();
    describe = () =>
      code.show({
        path: "v1/detect",
        query: { ...asked, confidence: threshold.confidence },
        ...sent,
      });
    describe();
  }

  function filter() {
    const kept = boxes.filter(({ score }) => score >= threshold.confidence);
    view.draw(kept);
    const totals = new Map();
    for (const { label } of kept) totals.set(label, (totals.get(label) ?? 0) + 1);
    const texts = [...totals].map(([label, count]) => h("li", {}, `${label}: ${count}`));
    put(counts, texts.length ? texts : h("li", {}, t("detect.nothing")));
    describe();
  }
}
