// New pictures of a class, as many as are wanted.

import { call } from "../api.js";
import { freshId, h, put } from "../dom.js";
import { number, t } from "../i18n.js";
import { askedAs } from "../models.js";
import { createRunner } from "../runner.js";
import { choice } from "../widgets/choice.js";
import { section } from "../widgets/section.js";
import { slider } from "../widgets/slider.js";
import { createStatus } from "../widgets/status.js";
import { tiles } from "../widgets/tiles.js";
import { timing } from "../widgets/timing.js";

const ANY = "";
const MOST = 100;

export function sheetSection({ family: { decoder }, settings, signal, code }) {
  const status = createStatus();
  const sheet = h("div");
  const where = h("div");
  const run = createRunner(generate, status, signal);
  const label = choice(
    t("sheet.label"),
    [[ANY, t("sheet.any")], ...decoder.manifest.labels.map((each) => [each, each])],
    settings.get("label", ANY),
    (value) => change({ label: value }),
  );
  const countId = freshId("count");
  const count = h("input", {
    id: countId,
    type: "number",
    min: 1,
    max: MOST,
    ".value": String(settings.number("count", 10)),
    onchange: () => change({ count: counted() }),
  });
  const temperature = slider({
    name: t("sheet.temperature"),
    min: 0,
    max: 2,
    step: 0.1,
    value: settings.number("temperature", 1),
    show: (value) => number(value, 1),
    onmove: (value) => change({ temperature: value }),
  });
  const again = h(
    "button",
    { type: "button", class: "primary", onclick: () => change({ seed: freshSeed() }) },
    t("sheet.generate"),
  );
  if (settings.get("seed") === null) settings.set({ seed: freshSeed() });
  run();
  return section(
    "sheet",
    h(
      "div",
      { class: "row" },
      label,
      h("div", { class: "field" }, h("label", { for: countId }, t("sheet.count")), count),
      h("div", { class: "grow" }, temperature.element),
      again,
    ),
    status.element,
    sheet,
    where,
  );

  function counted() {
    const wanted = Math.min(MOST, Math.max(1, Math.round(Number(count.value) || 1)));
    count.value = String(wanted);
    return wanted;
  }

  function change(changes) {
    settings.set(changes);
    run();
  }

  async function generate() {
    const document = {
      count: settings.number("count", 10),
      label: settings.get("label"),
      seed: settings.number("seed", 0),
      temperature: settings.number("temperature", 1),
      format: "json",
    };
    if (document.label === null) delete document.label;
    const query = askedAs(decoder);
    const headers = { "Content-Type": "application/json" };
    const answered = await call("v1/generate", {
      method: "POST",
      query,
      body: JSON.stringify(document),
      headers,
      signal,
    });
    const answer = await answered.response.json();
    put(sheet, tiles(answer.images));
    put(where, timing(answered, answer), h("p", { class: "quiet small" }, t("sheet.seed", { seed: answer.seed })));
    code.show({
      path: "v1/generate",
      query,
      media: "application/json",
      document: { ...document, format: "grid" },
      saveAs: "generated.png",
    });
  }
}

/** A seed short enough to be read out. */
const freshSeed = () => Math.floor(Math.random() * 1_000_000);
