// Detect: boxes over a picture, and the threshold beside the curve that says what it costs.

import { call } from "../api.js";
import { h, put } from "../dom.js";
import { t } from "../i18n.js";
import { askedAs, detailOf, samplesOf } from "../models.js";
import { createRunner } from "../runner.js";
import { boxView } from "../widgets/boxes.js";
import { codeView } from "../widgets/code.js";
import { chosenModel, heading } from "../widgets/frame.js";
import { picturePicker } from "../widgets/picker.js";
import { sampleRow } from "../widgets/samples.js";
import { createStatus } from "../widgets/status.js";
import { timing } from "../widgets/timing.js";
import { liveView } from "./detect-live.js";
import { thresholdView } from "./threshold.js";

// As many boxes as the API answers with; the page leaves out those below the threshold.
const MOST = 1000;

export function render(root, { models, settings, memory, signal, again }) {
  const model = chosenModel(models, settings);
  const asked = askedAs(model, models);
  const status = createStatus();
  const view = boxView();
  const counts = h("ul", { class: "chips", "aria-label": t("detect.counts") });
  const where = h("div");
  const side = h("div", { class: "stack" });
  const samples = h("div", { class: "stack" });
  const code = codeView();
  const picker = picturePicker((file) => choose({ file }), signal, true);
  const run = createRunner(detect, status, signal);
  const listed = h("details", { class: "card", hidden: true }, h("summary", {}, t("detect.list")), view.list);
  const result = h(
    "section",
    { class: "card stack", "aria-label": t("detect.answer"), hidden: true },
    view.element,
    counts,
    where,
  );
  let boxes = [];
  let threshold = null;
  let describe = () => {};
  put(
    root,
    heading("detect", { models, model, onmodel: changeModel }),
    h("section", { class: "card input-row", "aria-label": t("detect.picture") }, picker.element, samples),
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

  function changeModel(name) {
    settings.set({ model: name, confidence: null });
    again();
  }

  async function begin() {
    try {
      const { manifest } = await detailOf(model);
      if (signal.aborted) return;
      threshold = thresholdView(manifest, settings, filter);
      put(side, h("section", { class: "card stack", "aria-label": t("threshold.title") }, threshold.elements));
      const found = await samplesOf(model);
      if (signal.aborted) return;
      put(
        samples,
        sampleRow(found, (sample) => choose({ sample })),
      );
      if (memory.file) choose({ file: memory.file });
      else if (found.items.length) choose({ sample: found.items[settings.number("sample", 0)] ?? found.items[0] });
    } catch (error) {
      if (!signal.aborted) status.show(error, begin);
    }
  }

  function choose(picked) {
    memory.file = picked.file;
    settings.set({ sample: picked.sample?.index });
    run(picked);
  }

  async function detect({ file, sample }) {
    const picture = file ?? (await sample.blob());
    if (file) picker.show(picture);
    const { manifest } = await detailOf(model);
    const media = picture.type || "application/octet-stream";
    const query = { model: asked, confidence: manifest.suppression.floor, max_detections: MOST };
    const answered = await call("v1/detect", {
      method: "POST",
      query,
      body: picture,
      headers: { "Content-Type": media },
      signal,
    });
    const document = await answered.response.json();
    const [{ width, height, boxes: all }] = document.results;
    boxes = all;
    result.hidden = false;
    listed.hidden = false;
    view.show(picture, width, height);
    put(where, timing(answered, document));
    filter();
    describe = () =>
      code.show({
        path: "v1/detect",
        query: { model: asked, confidence: threshold.confidence },
        media,
        file: file ? file.name || "picture" : `sample.${media.split("/")[1]}`,
        source: sample?.path,
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
