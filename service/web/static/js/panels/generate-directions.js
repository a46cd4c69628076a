// One picture, changed along the main directions in which the latents vary.

import { h } from "../dom.js";
import { number, percent, t } from "../i18n.js";
import { decodeLatents } from "../latents.js";
import { askedAs } from "../models.js";
import { createRunner } from "../runner.js";
import { choice } from "../widgets/choice.js";
import { section } from "../widgets/section.js";
import { slider } from "../widgets/slider.js";
import { createStatus } from "../widgets/status.js";
import { pngUrl } from "../widgets/tiles.js";

const SHOWN = 6;
const WIDEST = 3; // standard deviations to either side
const ALL = "";

export function directionsSection({ family: { decoder }, settings, signal, code }) {
  const { mean, classes, directions } = decoder.details;
  const { labels } = decoder.manifest;
  const used = directions.slice(0, SHOWN);
  const status = createStatus();
  const image = h("img", { class: "pixelated large", alt: t("directions.image") });
  const run = createRunner(decode, status, signal);
  const from = choice(
    t("directions.from"),
    [[ALL, t("directions.mean")], ...labels.map((each) => [each, each])],
    settings.get("from", labels[0]),
    (value) => {
      settings.set({ from: value || "mean" });
      run();
    },
  );
  const sliders = used.map((direction, index) =>
    slider({
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
    }),
  );
  run();
  return section(
    "directions",
    h("p", { class: "quiet" }, t("directions.lead")),
    h(
      "div",
      { class: "columns" },
      h(
        "div",
        { class: "stack" },
        from,
        sliders.map(({ element }) => element),
        h("button", { type: "button", onclick: reset }, t("directions.reset")),
      ),
      h("div", { class: "stack" }, status.element, image),
    ),
  );

  function reset() {
    sliders.forEach((each, index) => {
      each.value = 0;
      settings.set({ [`d${index + 1}`]: null });
    });
    run();
  }

  async function decode() {
    const start = classes[labels.indexOf(settings.get("from", labels[0]))] ?? mean;
    const moved = start.map((value, axis) =>
      used.reduce((sum, { vector, std }, index) => sum + sliders[index].value * std * vector[axis], value),
    );
    const { results, described } = await decodeLatents([moved], askedAs(decoder), signal);
    image.src = pngUrl(results[0].png);
    code.show(described);
  }
}
