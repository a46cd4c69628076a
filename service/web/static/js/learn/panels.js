// The panels inside the course's text: those of the page, and some of its own.

import { freshId, h, put } from "../dom.js";
import { t } from "../i18n.js";
import { createStatus } from "../widgets/status.js";

const AUTOENCODERS = ["autoencoder", "encoder", "decoder"];
const EARLY = "600px"; // before a panel comes into view it is mounted

/**
 * By name: how a panel is loaded, the tasks of which it needs a model each, and those whose models it is given.
 *
 * `mount` of its module is called with the element and `{ models, memory, file, signal }`: these models, an object that
 * stays when the language changes, what gives the address of a file that was copied for it, and what ends when the
 * section is left.
 */
const PANELS = {
  neuron: { load: () => import("./neuron.js") },
  xor: { load: () => import("./xor.js") },
  kernel: { load: () => import("./kernel.js") },
  iou: { load: () => import("./iou.js") },
  ap: { load: () => import("./ap.js") },
  recurrence: { load: () => import("./recurrence.js") },
  typicality: { needs: ["classification"], tasks: ["classification"], load: () => import("./typicality.js") },
  classify: ofPage(() => import("../panels/classify.js"), ["classification"], { model: "classifier" }),
  threshold: ofPage(() => import("../panels/detect.js"), ["detection"]),
  draw: ofPage(() => import("../panels/generate.js"), ["autoencoder"], { tool: "draw" }, AUTOENCODERS),
  morph: ofPage(() => import("../panels/generate.js"), ["encoder", "decoder"], { tool: "morph" }, AUTOENCODERS),
  importance: ofPage(() => import("../panels/read.js"), ["text"]),
  numbers: ofPage(() => import("../panels/numbers.js"), ["tabular"]),
};

/** A panel of the page, without what surrounds it there. */
function ofPage(load, needs, preset = {}, tasks = needs) {
  const mount = ({ render }, element, context) =>
    render(element, { ...context, settings: settingsIn(context.memory, preset), inside: true });
  return { needs, tasks, load: async () => ({ mount: mount.bind(null, await load()) }) };
}

/** Mounts each panel of a text shortly before it comes into view; `trouble` is why the models are not known. */
export function mountPanels(article, { models, trouble, memory, file, signal }) {
  const waiting = new Map();
  const observer = new IntersectionObserver(
    (entries) => {
      for (const { isIntersecting, target } of entries) {
        if (!isIntersecting) continue;
        observer.unobserve(target);
        waiting.get(target)();
      }
    },
    { rootMargin: EARLY },
  );
  signal.addEventListener("abort", () => observer.disconnect());
  article.querySelectorAll("[data-panel]").forEach((place, index) => {
    waiting.set(place, () => mountAt(place, index));
    observer.observe(place);
  });

  async function mountAt(place, index) {
    const name = place.dataset.panel;
    const { needs = [], tasks = [], load } = PANELS[name];
    const given = models.filter(({ task }) => tasks.includes(task));
    const isServed = needs.every((task) => given.some((model) => model.task === task));
    const title = h("h3", { id: freshId("panel") }, t(`learn.panel.${name}`));
    const status = createStatus();
    const element = h("div", { class: "panel" });
    const section = h("section", { class: "card stack try", "aria-labelledby": title.id }, title, status.element, element);
    const picture = [...place.childNodes]; // which the panel replaces
    if (!trouble && !isServed) {
      put(place, picture, h("p", { class: "quiet small" }, t("learn.absent", { panel: title.textContent })));
      return;
    }
    if (trouble && needs.length) {
      status.show(trouble, () => location.reload());
      put(place, picture, section);
      return;
    }
    put(place, section);
    await begin();

    async function begin() {
      put(element);
      try {
        const { mount } = await load();
        if (signal.aborted) return;
        status.clear();
        await mount(element, { models: given, memory: (memory[`${name} ${index}`] ??= {}), file, signal });
      } catch (error) {
        if (!signal.aborted) status.show(error, begin);
      }
    }
  }
}

/** A panel's settings, which are in the address where it has the page for itself. */
function settingsIn(memory, preset) {
  const kept = (memory.settings ??= { ...preset });
  return {
    get: (name, otherwise = null) => kept[name] ?? otherwise,
    number(name, otherwise) {
      const value = Number.parseFloat(kept[name]);
      return Number.isFinite(value) ? value : otherwise;
    },
    entries: () => Object.entries(kept),
    set(changes) {
      for (const [name, value] of Object.entries(changes)) {
        if (value === null || value === undefined || value === "") delete kept[name];
        else kept[name] = String(value);
      }
    },
  };
}
