// Detect: boxes over a picture, and the threshold beside the curve that says what it costs.

import { h, put } from "../dom.js";
import { number, t } from "../i18n.js";
import { askedAs, detailOf, manifestOf } from "../models.js";
import { nameOf } from "../names.js";
import { createRunner } from "../runner.js";
import { boxView } from "../widgets/boxes.js";
import { codeView } from "../widgets/code.js";
import { feedback } from "../widgets/feedback.js";
import { chosenModel, heading, section } from "../widgets/frame.js";
import { more } from "../widgets/more.js";
import { colourOf } from "../widgets/palette.js";
import { createStatus } from "../widgets/status.js";
import { timing } from "../widgets/timing.js";
import { typicality } from "../widgets/typicality.js";
import { liveView } from "./detect-live.js";
import { askAbout, pictureInput, pictureOf } from "./picture.js";
import { thresholdView } from "./threshold.js";

// As many boxes as the API answers with; the page leaves out those below the threshold.
const MOST = 1000;

/** @param inside whether it is part of a section of the course, without what surrounds it on its own page. */
export function render(root, { models, settings, memory, signal, again, inside = false }) {
  const model = chosenModel(models, settings);
  const asked = askedAs(model);
  const status = createStatus();
  const view = boxView();
  const counts = h("ul", { class: "chips", "aria-label": t("detect.counts") });
  const about = h("div", { class: "stack" });
  const side = h("div", { class: "stack" });
  const code = codeView();
  const run = createRunner(detect, status, signal, clear);
  const input = pictureInput(model, { settings, memory, signal, onpick: run, compact: true });
  const found = h("div", { class: "stack", hidden: true }, view.element, counts, about);
  const empty = h("p", { class: "quiet" }, t("detect.empty"));
  const result = section("detect.answer", status.element, empty, found);
  let boxes = [];
  let threshold = null;
  let data = "";
  let describe = () => {};
  put(
    root,
    !inside && heading("detect", { models, model, onchange: change }),
    h("section", { class: "card input-row", "aria-label": t("detect.picture") }, input.picker, input.samples),
    h("div", { class: "columns wide-left" }, result, side),
    !inside && [live(), code.element],
  );
  begin();

  function live() {
    const how = {
      asked,
      detail: () => detailOf(model),
      threshold: () => threshold?.confidence ?? 0.5,
      signal,
    };
    return section("live.title", h("h2", {}, t("live.title")), liveView(how));
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
      put(side, section("threshold.title", threshold.elements));
      await input.offer();
    } catch (error) {
      if (!signal.aborted) status.show(error, begin);
    }
  }

  function clear() {
    boxes = [];
    found.hidden = true;
    empty.hidden = true;
  }

  async function detect(picked) {
    const picture = await pictureOf(picked);
    if (picked.file) input.show(picture);
    const { manifest } = await detailOf(model);
    const query = { ...asked, confidence: manifest.suppression.floor, max_detections: MOST };
    const { answered, document, described } = await askAbout(picture, picked, "v1/detect", query, signal);
    const answeredBy = await manifestOf(document);
    const [detections] = document.results;
    boxes = detections.boxes;
    data = answeredBy.data?.name;
    view.show(picture, detections.width, detections.height);
    put(
      about,
      typicality(detections, answeredBy),
      feedback(answered, document, seen),
      more("boxes", t("detect.list"), view.list),
      timing(answered, document),
    );
    found.hidden = false;
    empty.hidden = true;

    /** The answer without the boxes that are not shown. */
    async function seen() {
      const which = askedAs({ name: document.model, wanted: document.version });
      const shown = { ...query, ...which, confidence: threshold.confidence };
      return (await askAbout(picture, picked, "v1/detect", shown, signal)).answered;
    }

    describe = () => code.show(described, t("detect.filtered", { confidence: threshold.confidence }));
    filter();
  }

  function filter() {
    const kept = boxes.filter(({ score }) => score >= threshold.confidence);
    view.draw(kept);
    const chips = [...Map.groupBy(kept, ({ label }) => label)].map(([label, same]) => {
      const chip = h("li", { class: "coloured" }, `${nameOf(label, data)}: ${number(same.length)}`);
      chip.style.setProperty("--colour", colourOf(same[0].index));
      return chip;
    });
    put(counts, chips.length ? chips : h("li", {}, t("detect.nothing")));
    describe();
  }
}
