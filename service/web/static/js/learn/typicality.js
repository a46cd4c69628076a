// How familiar a picture is: samples, pictures of one's own, and some that no training image resembles.

import { h, put } from "../dom.js";
import { t } from "../i18n.js";
import { askedAs, detailOf, manifestOf } from "../models.js";
import { askAbout, pictureInput, pictureOf } from "../panels/picture.js";
import { verdict } from "../panels/labels.js";
import { createRunner } from "../runner.js";
import { bars } from "../widgets/bars.js";
import { createStatus } from "../widgets/status.js";
import { isDoubtful, typicality } from "../widgets/typicality.js";

const SIZE = 128;
const SHOWN = 3; // labels

/** Pictures of nothing that the model knows, drawn on a canvas. */
const STRANGE = { noise, stripes, rings, text };

export function mount(element, { models, memory, signal }) {
  const model = models.find(({ name }) => name === "classifier") ?? models[0];
  const status = createStatus();
  const answer = h("div", { class: "stack", "aria-live": "polite" });
  const run = createRunner(judge, status, signal, () => put(answer));
  const input = pictureInput(model, {
    settings: { get: () => null, number: (_, otherwise) => otherwise, set: () => {} },
    memory,
    signal,
    onpick: run,
  });
  const strange = Object.entries(STRANGE).map(([name, paint]) =>
    h("button", { type: "button", onclick: async () => input.choose({ file: await painted(paint) }) }, t(`learn.strange.${name}`)),
  );
  put(
    element,
    h(
      "div",
      { class: "columns" },
      h(
        "div",
        { class: "stack" },
        input.picker,
        h("div", { class: "row", role: "group", "aria-label": t("learn.strange") }, strange),
        input.samples,
      ),
      h("div", { class: "stack" }, status.element, answer),
    ),
  );
  return input.offer();

  async function judge(picked) {
    const picture = await pictureOf(picked);
    input.show(picture);
    const { manifest } = await detailOf(model);
    const query = { ...askedAs(model), top_k: Math.min(SHOWN, manifest.labels.length) };
    const { document } = await askAbout(picture, picked, "v1/predict", query, signal);
    const answering = await manifestOf(document);
    const [result] = document.results;
    const data = answering.data?.name;
    const [first] = result.labels;
    put(
      answer,
      typicality(result, answering),
      first && verdict(first, result, data),
      bars(result.labels, new Set([first?.label]), { data, muted: isDoubtful(result) }),
    );
  }
}

async function painted(paint) {
  const canvas = new OffscreenCanvas(SIZE, SIZE);
  const context = canvas.getContext("2d");
  context.fillStyle = "#fff";
  context.fillRect(0, 0, SIZE, SIZE);
  context.fillStyle = context.strokeStyle = "#223";
  paint(context);
  return new File([await canvas.convertToBlob({ type: "image/png" })], "picture.png", { type: "image/png" });
}

function noise(context) {
  const image = context.createImageData(SIZE, SIZE);
  for (let at = 0; at < image.data.length; at++) image.data[at] = at % 4 === 3 ? 255 : 256 * Math.random();
  context.putImageData(image, 0, 0);
}

function stripes(context) {
  for (let x = 0; x < SIZE; x += 16) context.fillRect(x, 0, 8, SIZE);
}

function rings(context) {
  context.lineWidth = 6;
  for (let radius = 8; radius < SIZE; radius += 16) {
    context.beginPath();
    context.arc(SIZE / 2, SIZE / 2, radius, 0, 2 * Math.PI);
    context.stroke();
  }
}

function text(context) {
  context.font = "bold 44px sans-serif";
  context.textAlign = "center";
  for (const [line, word] of ["one", "two", "three"].entries()) context.fillText(word, SIZE / 2, 40 + 38 * line);
}
