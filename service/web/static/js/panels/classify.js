// Classify: a picture in, probabilities out, and the set of labels that holds the truth as often as asked.

import { call } from "../api.js";
import { h, put } from "../dom.js";
import { number, percent, t } from "../i18n.js";
import { askedAs, detailOf, samplesOf } from "../models.js";
import { createRunner } from "../runner.js";
import { bars, share } from "../widgets/bars.js";
import { codeView } from "../widgets/code.js";
import { familiarity } from "../widgets/familiarity.js";
import { chosenModel, heading } from "../widgets/frame.js";
import { picturePicker } from "../widgets/picker.js";
import { sampleRow } from "../widgets/samples.js";
import { createStatus } from "../widgets/status.js";
import { timing } from "../widgets/timing.js";
import { coverageSlider, labelSet } from "./coverage.js";

const SHOWN = 8;

export function render(root, { models, settings, memory, signal, again }) {
  const model = chosenModel(models, settings);
  const asked = askedAs(model, models);
  const status = createStatus();
  const answer = h("section", { class: "card stack", "aria-label": t("classify.answer") });
  const samples = h("div", { class: "stack" });
  const code = codeView();
  const picker = picturePicker((file) => choose({ file }), signal);
  const run = createRunner(classify, status, signal);
  put(
    root,
    heading("classify", { models, model, onmodel: changeModel }),
    h(
      "div",
      { class: "columns" },
      h(
        "section",
        { class: "card stack", "aria-label": t("classify.picture") },
        picker.element,
        h("h2", {}, t("samples.title")),
        samples,
      ),
      h("div", { class: "stack" }, status.element, answer),
    ),
    code.element,
  );
  put(answer, h("p", { class: "quiet" }, t("classify.empty")));
  begin();

  function changeModel(name) {
    settings.set({ model: name });
    again();
  }

  async function begin() {
    try {
      const found = await samplesOf(model);
      if (signal.aborted) return;
      put(
        samples,
        sampleRow(found, (sample) => choose({ sample })),
      );
      const wanted = settings.get("sample");
      if (memory.file) choose({ file: memory.file });
      else if (found.items.length) choose({ sample: found.items[Number(wanted ?? 0)] ?? found.items[0] });
    } catch (error) {
      if (!signal.aborted) status.show(error, begin);
    }
  }

  function choose(picked) {
    memory.file = picked.file;
    settings.set({ sample: picked.sample?.index });
    run(picked);
  }

  async function classify({ file, sample }) {
    const picture = file ?? (await sample.blob());
    picker.show(picture);
    const manifest = (await detailOf(model)).manifest;
    const query = { model: asked, top_k: Math.min(1000, manifest.labels.length) };
    const media = picture.type || "application/octet-stream";
    const answered = await call("v1/predict", {
      method: "POST",
      query,
      body: picture,
      headers: { "Content-Type": media },
      signal,
    });
    const document = await answered.response.json();
    const sent = { media, file: file ? file.name || "picture" : `sample.${media.split("/")[1]}`, source: sample?.path };
    show(answered, document, manifest, sent);
  }

  function show(answered, document, manifest, sent) {
    const [result] = document.results;
    const list = h("div");
    const set = h("div", { class: "stack" });
    const cover = coverageSlider(manifest.conformal, settings, write);
    const [first] = result.labels;
    const title = h("h2", {}, t("classify.best", { label: first.label, probability: share(first.probability) }));
    put(answer, title, familiarity(result), list, cover.element, set, timing(answered, document));
    write(cover.point);

    function write(point) {
      const labels = labelSet(result.labels, point.threshold);
      code.show({ path: "v1/predict", query: { model: asked, coverage: point.coverage }, ...sent });
      put(list, bars(result.labels.slice(0, Math.max(SHOWN, labels.length)), new Set(labels)));
      put(
        set,
        h(
          "ul",
          { class: "chips", "aria-label": t("coverage.set") },
          labels.map((label) => h("li", {}, label)),
        ),
        h(
          "p",
          { class: "quiet small" },
          t("coverage.measured", { coverage: percent(point.test_coverage), size: number(point.mean_set_size, 2) }),
        ),
      );
    }
  }
}
