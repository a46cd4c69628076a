// Generate: new pictures by class, along the directions of the latents, between two pictures, and of one's own drawing.

import { h, put } from "../dom.js";
import { detailOf, versionOf } from "../models.js";
import { codeView } from "../widgets/code.js";
import { heading } from "../widgets/frame.js";
import { createStatus } from "../widgets/status.js";
import { directionsSection } from "./generate-directions.js";
import { drawSection } from "./generate-draw.js";
import { morphSection } from "./generate-morph.js";
import { sheetSection } from "./generate-sheet.js";

export function render(root, { models, settings, signal, again }) {
  const status = createStatus();
  const body = h("div", { class: "stack" });
  const code = codeView();
  begin();

  async function begin() {
    put(root, heading("generate", { models: [models[0]], model: { ...models[0], versions: [] } }), status.element);
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
    const tools = { family, settings, signal, code };
    const sections = [
      family.decoder && sheetSection(tools),
      (family.autoencoder || family.encoder) && drawSection(tools),
      family.decoder?.details && directionsSection(tools),
      family.decoder && family.encoder && morphSection(tools),
    ];
    put(body, ...sections);
    put(root, heading("generate", { models: leaders, model: leaderOf(family), onchange: change }), body, code.element);
  }

  function change(changes) {
    settings.set(changes);
    again();
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
