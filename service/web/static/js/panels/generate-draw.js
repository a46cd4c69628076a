// A drawing, compressed to a few numbers and restored from them.

import { json } from "../api.js";
import { h, put } from "../dom.js";
import { brief, t } from "../i18n.js";
import { decodeLatents } from "../latents.js";
import { askedAs, samplesOf } from "../models.js";
import { createRunner } from "../runner.js";
import { typicality } from "../widgets/typicality.js";
import { latentBars } from "../widgets/latents.js";
import { section } from "../widgets/section.js";
import { sampleRow } from "../widgets/samples.js";
import { sketch } from "../widgets/sketch.js";
import { createStatus } from "../widgets/status.js";
import { pngUrl, tiles } from "../widgets/tiles.js";

const MORE = 10;
const SPREAD = 0.45; // of the latents' own standard deviations

export function drawSection({ family, signal, code }) {
  const { autoencoder, encoder, decoder } = family;
  const status = createStatus();
  const restored = h("figure", { class: "shown" }, waiting());
  const numbers = h("figure", { class: "shown" }, waiting());
  const more = h("div");
  const samples = h("div");
  const sheet = sketch(() => run());
  const run = createRunner(restore, status, signal);
  const card = (autoencoder ?? encoder).manifest;
  let latents = null;
  const similar = h(
    "button",
    { type: "button", class: "primary", disabled: true, onclick: () => runMore() },
    t("draw.more", { count: MORE }),
  );
  const runMore = createRunner(generateMore, status, signal);
  offer();
  return section(
    "draw",
    h("p", { class: "quiet" }, t("draw.lead", { numbers: card.latent })),
    h(
      "div",
      { class: "columns thirds" },
      h(
        "div",
        { class: "stack" },
        sheet.element,
        h(
          "div",
          { class: "row" },
          h("button", { type: "button", onclick: clear }, t("draw.clear")),
          encoder && decoder?.details && similar,
        ),
      ),
      numbers,
      restored,
    ),
    status.element,
    more,
    samples,
  );

  async function offer() {
    const found = await samplesOf(autoencoder ?? encoder).catch(() => null);
    if (!found || signal.aborted) return;
    put(
      samples,
      sampleRow(found, async (sample) => {
        await sheet.copy(await sample.blob(), (card.image.background ?? 1) < 0.5);
        run();
      }),
    );
  }

  function clear() {
    sheet.clear();
    latents = null;
    similar.disabled = true;
    put(restored, waiting());
    put(numbers, waiting());
    put(more);
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
      put(numbers, latentBars(latents), h("figcaption", {}, t("draw.numbers", { numbers: latents.length })));
    }
    if (answer) {
      const [result] = answer.results;
      const { png, error } = result;
      const usual = autoencoder.manifest.metrics.mse;
      put(
        restored,
        h("img", { class: "pixelated large", src: pngUrl(png), alt: t("draw.restored") }),
        h("figcaption", {}, t("draw.error", { error: brief(error, 2), usual: brief(usual, 2) })),
        typicality(result, autoencoder.manifest),
      );
    }
    code.show({
      path: answer ? "v1/reconstruct" : "v1/encode",
      query: askedAs(autoencoder ?? encoder),
      media: "image/png",
      file: "drawing.png",
    });
  }

  async function generateMore() {
    const near = Array.from({ length: MORE }, () => nearby(latents, decoder.details.directions));
    const { results, described } = await decodeLatents(near, askedAs(decoder), signal);
    put(more, tiles(results));
    code.show(described);
  }
}

const waiting = () => h("div", { class: "waiting quiet" }, t("draw.waiting"));

/** Latents close by, moved at random along the main directions. */
function nearby(latents, directions) {
  return directions.reduce((moved, { vector, std }) => {
    const step = SPREAD * std * gaussian();
    return moved.map((value, axis) => value + step * vector[axis]);
  }, latents);
}

/** A draw from the normal distribution (Box and Muller 1958). */
const gaussian = () => Math.sqrt(-2 * Math.log(1 - Math.random())) * Math.cos(2 * Math.PI * Math.random());
