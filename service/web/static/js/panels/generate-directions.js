// One picture, changed along the main directions in which the latents vary.

import { h, put } from "../dom.js";
import { number, percent, t } from "../i18n.js";
import { decodeLatents } from "../latents.js";
import { askedAs } from "../models.js";
import { nameOf } from "../names.js";
import { createRunner } from "../runner.js";
import { choice } from "../widgets/choice.js";
import { section } from "../widgets/frame.js";
import { slider } from "../widgets/slider.js";
import { createStatus } from "../widgets/status.js";
import { pngUrl } from "../widgets/tiles.js";

const SHOWN = 6;
const WIDEST = 3; // standard deviations to either side
const MEAN = "mean";

export function directionsTool({ family: { decoder }, settings, signal, code }) {
  const { mean, classes, directions } = decoder.details;
  const { labels, data } = decoder.manifest;
  const used = directions.slice(0, SHOWN);
  const status = createStatus();
  const image = h("figure", { class: "frame" });
  const run = createRunner(decode, status, signal, () => put(image));
  const start = () => settings.get("from", labels[0] ?? MEAN);
  const from = choice(
    t("directions.from"),
    [[MEAN, t("directions.mean")], ...labels.map((each) => [each, nameOf(each, data.name)])],
    start(),
    (value) => {
      settings.set({ from: value });
      run();
    },
  );
  const controls = used.map((direction, index) => {
    const made = slider({
      name: t("directions.one", { number: index + 1, share: percent(direction.explained, 0) }),
      min: -WIDEST,
      max: WIDEST,
      step: 0.1,
      value: settings.number(`d${index + 1}`, 0),
      show: (value) => number(value, 1),
      onmove(value) {
        settings.set({ [`d${index + 1}`]: value || null });
        run();
      },
    });
    const ends = [h("img", { class: "pixelated", alt: "" }), h("img", { class: "pixelated", alt: "" })];
    return { slider: made, ends, element: h("div", { class: "between" }, ends[0], made.element, ends[1]) };
  });
  run();
  return h(
    "div",
    { class: "tool even" },
    section(
      "directions.sliders",
      from,
      controls.map(({ element }) => element),
      h("button", { type: "button", onclick: reset }, t("directions.reset")),
    ),
    section("directions.title", status.element, image),
  );

  function reset() {
    controls.forEach(({ slider: each }) => {
      each.value = 0;
    });
    settings.set(Object.fromEntries(used.map((_, index) => [`d${index + 1}`, null])));
    run();
  }

  /** The latents where the sliders are; with `changed`, where they would be with one of them at another value. */
  function latentsAt(changed = {}) {
    const origin = classes[labels.indexOf(start())] ?? mean;
    return origin.map((value, axis) =>
      used.reduce(
        (sum, { vector, std }, index) => sum + (changed[index] ?? controls[index].slider.value) * std * vector[axis],
        value,
      ),
    );
  }

  async function decode() {
    const ends = used.flatMap((_, index) => [latentsAt({ [index]: -WIDEST }), latentsAt({ [index]: WIDEST })]);
    const { results, sent } = await decodeLatents([latentsAt(), ...ends], askedAs(decoder), signal);
    const [middle, ...others] = results.map(({ png }) => pngUrl(png));
    put(image, h("img", { class: "pixelated", src: middle, alt: t("directions.image") }));
    others.forEach((url, index) => {
      controls[index >> 1].ends[index % 2].src = url;
    });
    code.show(sent);
  }
}
