// Generate: new pictures by class, one's own drawing, the main directions of the latents, and one picture into another.

import { ROOT } from "../api.js";
import { h, put } from "../dom.js";
import { t } from "../i18n.js";
import { detailOf, versionOf } from "../models.js";
import { codeView } from "../widgets/code.js";
import { heading } from "../widgets/frame.js";
import { createStatus } from "../widgets/status.js";
import { directionsTool } from "./generate-directions.js";
import { drawTool } from "./generate-draw.js";
import { morphTool } from "./generate-morph.js";
import { sheetTool } from "./generate-sheet.js";

/** The tools, and the parts of an autoencoder that each needs. */
const TOOLS = [
  { id: "sheet", make: sheetTool, fits: ({ decoder }) => decoder },
  { id: "draw", make: drawTool, fits: ({ autoencoder, encoder }) => autoencoder || encoder },
  { id: "directions", make: directionsTool, fits: ({ decoder }) => decoder?.details },
  { id: "morph", make: morphTool, fits: ({ decoder, encoder }) => decoder && encoder },
];

/** @param inside whether it is part of a section of the course, without what surrounds it on its own page. */
export function render(root, { models, settings, signal, again, inside = false }) {
  const status = createStatus();
  const code = codeView();
  begin();

  async function begin() {
    put(root, !inside && h("h1", {}, t("nav.generate")), status.element);
    status.busy();
    try {
      const families = familiesOf(await Promise.all(models.map(wanted)));
      if (signal.aborted) return;
      status.clear();
      show(families);
    } catch (error) {
      if (!signal.aborted) status.show(error, begin);
    }
  }

  /** A model with its manifest, as the version that was chosen where it has that. */
  async function wanted(model) {
    const version = versionOf(model, settings.get("version"));
    return { ...version, ...(await detailOf(version)) };
  }

  function show(families) {
    const leaders = families.map(leaderOf);
    const chosen = leaders.findIndex(({ name }) => name === settings.get("model"));
    const family = families[Math.max(0, chosen)];
    const tools = TOOLS.filter(({ fits }) => fits(family));
    const tool = tools.find(({ id }) => id === settings.get("tool")) ?? tools[0];
    const made = tool.make({ family, settings, signal, code });
    if (inside) {
      put(root, made);
      return;
    }
    put(
      root,
      heading("generate", { models: leaders, model: leaderOf(family), onchange: change }),
      navigation(tools, tool, settings),
      h("p", { class: "quiet" }, t(`${tool.id}.lead`, { numbers: leaderOf(family).manifest.latent })),
      made,
      code.element,
    );
  }

  function change(changes) {
    settings.set(changes);
    again();
  }
}

/** Links to the tools. Each keeps the settings of the others, as they are when it is followed. */
function navigation(tools, current, settings) {
  return h("nav", { class: "subnav", "aria-label": t("generate.tools") }, h("ul", {}, tools.map(item)));

  function item({ id }) {
    const link = h("a", { "aria-current": id === current.id ? "page" : null, onclick: aim }, t(`${id}.title`));
    aim();
    return h("li", {}, link);

    function aim() {
      const query = new URLSearchParams([...settings.entries().filter(([name]) => name !== "tool"), ["tool", id]]);
      link.href = new URL(`#/generate?${query}`, ROOT);
    }
  }
}

const leaderOf = (family) => family.decoder ?? family.autoencoder ?? family.encoder;

/** The parts of autoencoders that belong together: of the same data and dimension. */
function familiesOf(details) {
  const families = new Map();
  for (const detail of details) {
    const { data, latent } = detail.manifest;
    const key = `${data.fingerprint} ${latent}`;
    const family = families.get(key) ?? {};
    family[detail.task] ??= detail;
    families.set(key, family);
  }
  return [...families.values()];
}
