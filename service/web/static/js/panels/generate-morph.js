// One picture that becomes another, by the latents between theirs.

import { json } from "../api.js";
import { h, put } from "../dom.js";
import { percent, t } from "../i18n.js";
import { decodeLatents } from "../latents.js";
import { askedAs, samplesOf } from "../models.js";
import { createRunner } from "../runner.js";
import { section } from "../widgets/frame.js";
import { slider } from "../widgets/slider.js";
import { createStatus } from "../widgets/status.js";
import { pngUrl } from "../widgets/tiles.js";

const STEPS = 20;
const STRIDE = 2; // from one frame of the strip to the next
const OFFERED = 10;

export function morphTool({ family: { encoder, decoder }, settings, signal, code }) {
  const status = createStatus();
  const rows = h("div", { class: "stack" });
  const image = h("img", { class: "pixelated", alt: t("morph.image"), hidden: true });
  const strip = h("ol", { class: "strip", "aria-label": t("morph.frames") });
  const clear = () => {
    frames = [];
    image.hidden = true;
    put(strip);
  };
  const run = createRunner(morph, status, signal, clear);
  const latents = new Map(); // of the samples, by their index
  let frames = [];
  let samples = [];
  const mixed = slider({
    name: t("morph.mix"),
    min: 0,
    max: STEPS,
    step: 1,
    value: Math.round(settings.number("mix", 0.5) * STEPS),
    show: (step) => percent(step / STEPS, 0),
    onmove: move,
  });
  begin();
  return h(
    "div",
    { class: "stack" },
    h(
      "div",
      { class: "tool even" },
      section("morph.ends", rows),
      section(
        "morph.title",
        status.element,
        h("figure", { class: "frame" }, image),
        mixed.element,
      ),
    ),
    section("morph.frames", h("h2", {}, t("morph.frames")), strip),
  );

  async function begin() {
    try {
      samples = (await samplesOf(encoder)).items.slice(0, OFFERED);
      if (signal.aborted) return;
      if (samples.length < 2) {
        status.say(t("samples.none"));
        return;
      }
      put(rows, pickRow("a", t("morph.from"), 0), pickRow("b", t("morph.to"), 1));
      run();
    } catch (error) {
      if (!signal.aborted) status.show(error, begin);
    }
  }

  function chosen(end, otherwise) {
    return Math.min(samples.length - 1, settings.number(end, otherwise));
  }

  function pickRow(end, title, otherwise) {
    const buttons = samples.map((sample) => {
      const button = h("button", {
        type: "button",
        "aria-label": t("samples.one", { number: sample.index + 1 }),
        onclick: () => pick(sample.index),
      });
      sample.blob().then(
        (data) => {
          const shown = h("img", { alt: "", class: "pixelated", src: URL.createObjectURL(data) });
          shown.onload = () => URL.revokeObjectURL(shown.src);
          put(button, shown);
        },
        () => put(button, String(sample.index + 1)),
      );
      return button;
    });
    press(buttons, chosen(end, otherwise));
    return h(
      "div",
      { role: "group", "aria-label": title },
      h("h2", {}, title),
      h(
        "ul",
        { class: "samples" },
        buttons.map((each) => h("li", {}, each)),
      ),
    );

    function pick(index) {
      press(buttons, index);
      settings.set({ [end]: index });
      run();
    }
  }

  async function latentsOf(index) {
    if (!latents.has(index)) {
      const body = await samples[index].blob();
      const { results } = await json("v1/encode", {
        method: "POST",
        query: askedAs(encoder),
        body,
        headers: { "Content-Type": body.type },
        signal,
      });
      latents.set(index, results[0].latents);
    }
    return latents.get(index);
  }

  async function morph() {
    const [first, second] = [await latentsOf(chosen("a", 0)), await latentsOf(chosen("b", 1))];
    const between = Array.from({ length: STEPS + 1 }, (_, step) =>
      first.map((value, axis) => value + (step / STEPS) * (second[axis] - value)),
    );
    const { results, sent } = await decodeLatents(between, askedAs(decoder), signal);
    frames = results.map(({ png }) => pngUrl(png));
    image.hidden = false;
    put(
      strip,
      frames.filter((_, step) => step % STRIDE === 0).map((url, index) => h("li", {}, frame(url, STRIDE * index))),
    );
    show();
    code.show(sent);
  }

  function frame(url, step) {
    const jump = () => {
      mixed.value = step;
      move(step);
    };
    return h(
      "button",
      { type: "button", "aria-label": percent(step / STEPS, 0), onclick: jump },
      h("img", { class: "pixelated", alt: "", src: url }),
    );
  }

  function move(step) {
    settings.set({ mix: step / STEPS });
    show();
  }

  function show() {
    if (!frames.length) return;
    image.src = frames[mixed.value];
    const nearest = Math.round(mixed.value / STRIDE);
    press([...strip.querySelectorAll("button")], nearest);
  }
}

/** Marks one of several buttons as the one that is chosen. */
function press(buttons, index) {
  buttons.forEach((button, each) => button.setAttribute("aria-pressed", String(each === index)));
}
