// New pictures of a class, as many as are wanted.

import { blob, call } from "../api.js";
import { h, note, put } from "../dom.js";
import { number, t } from "../i18n.js";
import { askedAs } from "../models.js";
import { nameOf } from "../names.js";
import { createRunner } from "../runner.js";
import { choice } from "../widgets/choice.js";
import { save } from "../widgets/download.js";
import { section } from "../widgets/frame.js";
import { slider } from "../widgets/slider.js";
import { createStatus } from "../widgets/status.js";
import { tiles } from "../widgets/tiles.js";
import { timing } from "../widgets/timing.js";

const ANY = "";
const MOST = 60;

export function sheetTool({ family: { decoder }, settings, signal, code }) {
  const { labels, data } = decoder.manifest;
  const status = createStatus();
  const result = h("div", { class: "stack" });
  const run = createRunner(generate, status, signal, () => put(result));
  const download = createRunner(fetchArchive, status, signal);
  const label = choice(
    t("sheet.label"),
    [[ANY, t("sheet.any")], ...labels.map((each) => [each, nameOf(each, data.name)])],
    settings.get("label", ANY),
    (value) => change({ label: value }),
  );
  const count = slider({
    name: t("sheet.count"),
    min: 1,
    max: MOST,
    step: 1,
    value: Math.min(MOST, settings.number("count", 18)),
    show: number,
    onmove: (value) => change({ count: value }),
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
  const fresh = () => change({ seed: freshSeed() });
  if (settings.get("seed") === null) settings.set({ seed: freshSeed() });
  run();
  return h(
    "div",
    { class: "tool" },
    section(
      "sheet.options",
      label,
      count.element,
      temperature.element,
      note(t("sheet.variety")),
      h("button", { type: "button", class: "primary", onclick: fresh }, t("sheet.generate")),
    ),
    section("sheet.title", status.element, result),
  );

  function change(changes) {
    settings.set(changes);
    run();
  }

  /** The request that makes the pictures in a format; without a class it makes any. */
  function requestFor(format) {
    const options = { count: count.value, label: settings.get("label"), seed: settings.number("seed", 0) };
    const query = { ...askedAs(decoder), ...options, temperature: temperature.value, format };
    return { method: "POST", query, signal };
  }

  async function generate() {
    const answered = await call("v1/generate", requestFor("json"));
    const answer = await answered.response.json();
    put(
      result,
      tiles(answer.images.map(({ png, label: name }) => ({ png, label: nameOf(name, data.name) }))),
      h(
        "div",
        { class: "row ends" },
        note(t("sheet.seed", { seed: answer.seed })),
        h("button", { type: "button", onclick: () => download() }, t("sheet.download")),
      ),
      timing(answered, answer),
    );
    code.show(answered.sent);
  }

  async function fetchArchive() {
    save(await blob("v1/generate", requestFor("zip")), "generated.zip");
  }
}

/** A seed short enough to be read out. */
const freshSeed = () => Math.floor(Math.random() * 1_000_000);
