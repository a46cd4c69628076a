// A drawing, compressed to a few numbers and restored from them.

import { json } from "../api.js";
import { h, put } from "../dom.js";
import { brief, t } from "../i18n.js";
import { decodeLatents } from "../latents.js";
import { askedAs, samplesOf } from "../models.js";
import { createRunner } from "../runner.js";
import { section } from "../widgets/frame.js";
import { latentBars } from "../widgets/latents.js";
import { sampleIn, sampleRow } from "../widgets/samples.js";
import { sketch } from "../widgets/sketch.js";
import { createStatus } from "../widgets/status.js";
import { pngUrl, tiles } from "../widgets/tiles.js";
import { typicality } from "../widgets/typicality.js";

const MORE = 10;
const SPREAD = 0.45; // of the latents' own standard deviations

export function drawTool({ family, settings, signal, code }) {
  const { autoencoder, encoder, decoder } = family;
  const leader = autoencoder ?? encoder;
  const status = createStatus();
  const numbers = h("figure", { class: "frame" });
  const restored = h("figure", { class: "frame" });
  const verdict = h("div", { class: "stack" });
  const more = h("section", { class: "card stack", "aria-label": t("draw.similar"), hidden: true });
  const samples = h("div");
  const sheet = sketch(() => run());
  const run = createRunner(restore, status, signal, empty);
  const runMore = createRunner(generateMore, status, signal);
  let latents = null;
  const similar = h(
    "button",
    { type: "button", class: "primary", disabled: true, onclick: () => runMore() },
    t("draw.more", { count: MORE }),
  );
  empty();
  offer();
  return h(
    "div",
    { class: "stack" },
    section(
      "draw.title",
      h(
        "div",
        { class: "trio" },
        h("div", {}, h("h2", {}, t("draw.drawing")), sheet.element),
        h("div", {}, h("h2", {}, t("draw.numbers", { numbers: leader.manifest.latent })), numbers),
        autoencoder && h("div", {}, h("h2", {}, t("draw.restored")), restored),
      ),
      h(
        "div",
        { class: "row" },
        h("button", { type: "button", onclick: clear }, t("draw.clear")),
        encoder && decoder?.details && similar,
      ),
      status.element,
      verdict,
      samples,
    ),
    more,
  );

  async function offer() {
    const found = await samplesOf(leader).catch(() => null);
    if (!found || signal.aborted) return;
    put(samples, sampleRow(found, pick));
    if (found.items.length) pick(sampleIn(found, settings));
  }

  async function pick(sample) {
    settings.set({ sample: sample.index });
    await sheet.copy(await sample.blob(), (leader.manifest.image.background ?? 1) < 0.5);
    run();
  }

  function clear() {
    sheet.clear();
    empty();
  }

  function empty() {
    latents = null;
    similar.disabled = true;
    more.hidden = true;
    put(verdict);
    for (const each of [numbers, restored]) put(each, h("p", { class: "quiet" }, t("draw.waiting")));
  }

  async function restore() {
    if (sheet.empty) return;
    const body = await sheet.centred();
    const headers = { "Content-Type": "image/png" };
    const ask = (path, model) => json(path, { method: "POST", query: askedAs(model), body, headers, signal });
    const [encoded, answer] = await Promise.all([
      encoder ? ask("v1/encode", encoder) : null,
      autoencoder ? ask("v1/reconstruct", autoencoder) : null,
    ]);
    if (encoded) {
      latents = encoded.results[0].latents;
      similar.disabled = false;
      put(numbers, latentBars(latents));
    }
    if (answer) {
      const [{ png, error }] = answer.results;
      const usual = autoencoder.manifest.metrics.mse;
      put(restored, h("img", { class: "pixelated", src: pngUrl(png), alt: t("draw.restored") }));
      put(verdict, h("p", {}, t("draw.error", { error: brief(error, 2), usual: brief(usual, 2) })));
    }
    verdict.append(typicality((answer ?? encoded).results[0], leader.manifest));
    code.show({
      path: answer ? "v1/reconstruct" : "v1/encode",
      query: askedAs(leader),
      media: "image/png",
      file: "drawing.png",
    });
  }

  async function generateMore() {
    const near = Array.from({ length: MORE }, () => nearby(latents, decoder.details.directions));
    const { results, sent } = await decodeLatents(near, askedAs(decoder), signal);
    more.hidden = false;
    put(more, h("h2", {}, t("draw.similar")), tiles(results));
    code.show(sent);
  }
}

/** Latents close by, moved at random along the main directions. */
function nearby(latents, directions) {
  return directions.reduce((moved, { vector, std }) => {
    const step = SPREAD * std * gaussian();
    return moved.map((value, axis) => value + step * vector[axis]);
  }, latents);
}

/** A draw from the normal distribution (Box and Muller 1958). */
const gaussian = () => Math.sqrt(-2 * Math.log(1 - Math.random())) * Math.cos(2 * Math.PI * Math.random());
