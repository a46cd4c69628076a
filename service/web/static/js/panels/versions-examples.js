// The inputs on which two versions differ most, each beside both answers.

import { blob, keys } from "../api.js";
import { h, put, whenChanged } from "../dom.js";
import { brief, t } from "../i18n.js";
import { bars } from "../widgets/bars.js";
import { boxView } from "../widgets/boxes.js";
import { latentBars } from "../widgets/latents.js";
import { createStatus } from "../widgets/status.js";
import { pngUrl } from "../widgets/tiles.js";

const AT_FIRST = 4;
const LABELS = 3;
const COLUMNS = 40; // of a row

/** @param path of the inputs, each by the id of its example. */
export function examplesList(path, signal) {
  const status = createStatus();
  const list = h("ol", { class: "examples" });
  const more = h("button", { type: "button", onclick: showAll });
  const element = h(
    "div",
    { class: "stack", hidden: true },
    h("h3", {}, t("examples.title")),
    status.element,
    list,
    more,
  );
  const made = new Map(); // by id: the view of an example
  let trial = ""; // that the views are of
  let found = { examples: [] };
  let shown = AT_FIRST;
  let asking = false;
  let refused = false;
  const draw = whenChanged(write);
  keys.addEventListener("change", tryAgain, { signal });

  return {
    element,
    show(given) {
      found = given;
      draw(given);
    },
  };

  function showAll() {
    shown = Infinity;
    write(found);
    list.children[AT_FIRST]?.focus();
  }

  function write({ examples, version, against }) {
    if (trial !== `${version}/${against}`) made.clear();
    trial = `${version}/${against}`;
    const visible = examples.slice(0, shown);
    const kept = new Set(visible.map(({ id }) => id));
    for (const id of made.keys()) if (!kept.has(id)) made.delete(id);
    for (const example of visible) {
      if (!made.has(example.id)) made.set(example.id, exampleView(example, { version, against }));
    }
    const elements = visible.map(({ id }) => made.get(id).element);
    // To put them in anew would take the focus.
    if (elements.length !== list.children.length || elements.some((each, index) => each !== list.children[index]))
      put(list, elements);
    element.hidden = !examples.length;
    more.hidden = examples.length <= visible.length;
    put(more, t("examples.more", { count: examples.length - visible.length }));
    if (kept.size) fetchInputs();
  }

  /** One after another; a refusal ends it until there is another key or somebody tries again. */
  async function fetchInputs() {
    if (asking || refused) return;
    asking = true;
    try {
      for (let next; (next = [...made].find(([, view]) => view.awaits));) {
        const [id, view] = next;
        view.awaits = false;
        try {
          await view.fill(await blob(`${path}/${encodeURIComponent(id)}`, { signal }));
        } catch (error) {
          if (error.kind === "problem")
            view.miss(); // others differ more by now
          else {
            view.awaits = true;
            throw error;
          }
        }
      }
      status.clear();
    } catch (error) {
      refused = true;
      if (!signal.aborted)
        status.show(error, error.kind === "offline" || error.kind === "overloaded" ? tryAgain : null);
    }
    asking = false;
  }

  function tryAgain() {
    refused = false;
    fetchInputs();
  }
}

function exampleView({ id, difference, label, answer, candidate }, { version, against }) {
  const input = h("div", { class: "input quiet small" }, t("examples.waiting"));
  const sides = [answer, candidate].map((result) => answerView(result));
  const titles = [t("compared.default", { version: against }), t("compared.canary", { version })];
  const told = t("examples.difference", { difference: brief(difference, 3) });
  return {
    awaits: true,
    element: h(
      "li",
      { tabindex: "-1", "data-id": id },
      h("p", { class: "row small" }, h("strong", {}, told), label && h("span", { class: "chip" }, label)),
      h(
        "div",
        { class: "sides" },
        h("div", {}, h("h4", {}, t("examples.input")), input),
        sides.map((side, index) => h("div", {}, h("h4", {}, titles[index]), side.element)),
      ),
    ),
    async fill(data) {
      input.className = "input";
      put(input, await inputView(data));
      if (data.type.startsWith("image/")) for (const side of sides) side.over(data);
    },
    miss: () => put(input, t("examples.gone")),
  };
}

async function inputView(data) {
  if (data.type.startsWith("image/")) {
    const image = h("img", { alt: t("examples.picture"), src: URL.createObjectURL(data) });
    image.addEventListener("load", () => {
      URL.revokeObjectURL(image.src);
      if (image.naturalWidth < 65) image.className = "pixelated";
    });
    return image;
  }
  const text = await data.text();
  if (data.type.startsWith("application/json")) return rowView(text);
  return scrolled(h("p", {}, text));
}

// No region: there would be many of the same name.
const scrolled = (...children) =>
  h("div", { class: "clip", tabindex: "0", role: "group", "aria-label": t("examples.input") }, children);

/** A row as its columns; any other document as it is. */
function rowView(text) {
  try {
    const { rows } = JSON.parse(text);
    const columns = Object.entries(rows[0]).slice(0, COLUMNS);
    return scrolled(
      h(
        "dl",
        { class: "figures small" },
        columns.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, written(value)))),
      ),
    );
  } catch {
    return scrolled(h("p", {}, text));
  }
}

const written = (value) => (typeof value === "number" ? brief(value, 6) : String(value ?? "–"));

/** An answer as `/v1` gives it; `over` draws it over the picture that it is about, where it has boxes. */
function answerView(result) {
  const still = (element) => ({ element, over: () => {} });
  if (!result) return still(h("p", { class: "quiet" }, "–"));
  if (Array.isArray(result.boxes)) return boxesOf(result);
  if (result.labels?.length) return still(bars(result.labels.slice(0, LABELS), new Set([result.labels[0].label])));
  if (typeof result.value === "number") return still(h("p", { class: "large-number" }, brief(result.value, 6)));
  if (result.png) return still(h("img", { class: "pixelated", src: pngUrl(result.png), alt: t("examples.picture") }));
  if (result.latents?.length) return still(latentBars(result.latents));
  return still(h("pre", { tabindex: "0" }, JSON.stringify(result, null, 1)));
}

function boxesOf({ width, height, boxes }) {
  const view = boxView();
  const counts = Map.groupBy(boxes, ({ label }) => label);
  const chips = [...counts].map(([label, found]) => h("li", {}, `${label}: ${found.length}`));
  const list = h("ul", { class: "chips small" }, chips.length ? chips : h("li", {}, t("detect.nothing")));
  return {
    element: h("div", { class: "stack" }, view.element, list),
    over(picture) {
      view.show(picture, width, height);
      view.draw(boxes);
    },
  };
}
