// A convolution, cell by cell: a small picture, a kernel that can be changed, and the products that make each output.

import { freshId, h, put, svg } from "../dom.js";
import { number, t } from "../i18n.js";
import { choice } from "../widgets/choice.js";
import { slider } from "../widgets/slider.js";
import { KERNELS, PICTURES, SIDE, convolve, pixelsOf, total, windowAt } from "./convolution.js";
import { live, options } from "./parts.js";

const OWN = "own";
const START = { picture: "corner", preset: "vertical", stride: 1, padding: 0, row: 2, column: 0 };
const FEW = 9; // cells along a side, with which there is room for their numbers

export function mount(element, { memory = {} }) {
  const set = Object.assign(memory, { ...START, ...memory });
  set.kernel ??= [...KERNELS[set.preset]];
  const before = h("div");
  const hint = freshId("hint");
  const after = h("div", {
    class: "output",
    tabindex: "0",
    role: "application",
    "aria-label": t("kernel.output"),
    "aria-describedby": hint,
  });
  const size = h("p", { class: "number small" });
  const products = h("div", { class: "products number" });
  const said = live();
  const weights = set.kernel.map((value, at) =>
    h("input", {
      type: "number",
      step: "any",
      value: String(value),
      "aria-label": t("kernel.weight", { row: Math.floor(at / SIDE) + 1, column: (at % SIDE) + 1 }),
      oninput: ({ target }) => {
        set.kernel[at] = Number(target.value) || 0;
        set.preset = preset.querySelector("select").value = OWN;
        draw();
      },
    }),
  );
  const presets = options([...Object.keys(KERNELS), OWN], (each) => t(`kernel.preset.${each}`));
  const preset = choice(t("kernel.preset"), presets, set.preset, (chosen) => {
    set.preset = chosen;
    if (chosen === OWN) return;
    set.kernel = [...KERNELS[chosen]];
    set.kernel.forEach((value, at) => (weights[at].value = String(value)));
    draw();
  });
  const steps = (name, min, max) =>
    slider({
      name: t(`kernel.${name}`),
      min,
      max,
      step: 1,
      value: set[name],
      show: number,
      onmove: (value) => {
        set[name] = value;
        draw();
      },
    }).element;
  after.addEventListener("keydown", (event) => {
    const move = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
    if (!move) return;
    event.preventDefault();
    choose(set.row + move[0], set.column + move[1]);
  });
  for (const kind of ["pointermove", "pointerdown"]) {
    after.addEventListener(kind, (event) => {
      const box = after.firstChild.getBoundingClientRect();
      const count = output.length;
      const at = (position, start, length) => Math.floor((count * (position - start)) / length);
      choose(at(event.clientY, box.top, box.height), at(event.clientX, box.left, box.width));
    });
  }
  const pictures = options(Object.keys(PICTURES), (each) => t(`kernel.picture.${each}`));
  let picture;
  let output;
  element.classList.add("lab");
  put(
    element,
    h(
      "div",
      { class: "row bottom" },
      choice(t("kernel.picture"), pictures, set.picture, (chosen) => {
        set.picture = chosen;
        draw();
      }),
      preset,
      h("div", { class: "grow" }, steps("stride", 1, 3)),
      h("div", { class: "grow" }, steps("padding", 0, 2)),
    ),
    h(
      "div",
      { class: "convolution" },
      h("div", {}, h("h4", {}, t("kernel.input")), before),
      h("div", {}, h("h4", {}, t("kernel.kernel")), h("div", { class: "weights" }, weights), products),
      h("div", {}, h("h4", {}, t("kernel.output")), after, size),
    ),
    said.element,
    h("p", { id: hint, class: "quiet small" }, t("kernel.hint")),
  );
  draw();

  function draw() {
    picture = pixelsOf(set.picture);
    output = convolve(picture, set.kernel, set);
    const count = output.length;
    put(size, t("kernel.size", { size: picture.length, padding: set.padding, stride: set.stride, count }));
    choose(set.row, set.column, true);
  }

  function choose(row, column, anew) {
    const last = output.length - 1;
    const [down, along] = [row, column].map((each) => Math.max(0, Math.min(last, each)));
    if (!anew && down === set.row && along === set.column) return;
    Object.assign(set, { row: down, column: along });
    const window = windowAt(picture, set.kernel, set, down, along);
    const { padding } = set;
    put(before, grid(picture, padding, (value) => ["pixel", value], [window[0].x, window[0].y, SIDE]));
    const most = Math.max(1e-9, ...output.flat().map(Math.abs));
    put(after, grid(output, 0, (value) => [value < 0 ? "minus" : "plus", Math.abs(value) / most], [along, down, 1]));
    put(products, window.map(product));
    said.say(t("kernel.cell", { row: down + 1, column: along + 1, value: brief(total(window)) }));
  }
}

function product({ pixel, weight }) {
  const factor = weight < 0 ? `(${brief(weight)})` : brief(weight);
  return h("span", { class: weight && pixel ? null : "quiet" }, `${brief(pixel)}·${factor}`);
}

const brief = (value) => String(Math.round(100 * value) / 100).replace("-", "−");

/**
 * @param look gives the class of a cell and how strong it is.
 * @param window the left, top and side of what stands out.
 */
function grid(rows, padding, look, [left, top, side]) {
  const count = rows.length;
  const whole = count + 2 * padding;
  const cell = (value, x, y) => {
    const [kind, strength] = look(value);
    return [
      svg("rect", { class: kind, x, y, width: 1, height: 1, "fill-opacity": strength.toFixed(3) }),
      count <= FEW &&
        svg("text", { class: strength > 0.5 ? `on-${kind}` : null, x: x + 0.5, y: y + 0.62 }, brief(value)),
    ];
  };
  return svg(
    "svg",
    { viewBox: `${-padding} ${-padding} ${whole} ${whole}`, class: "cells", "aria-hidden": "true" },
    svg("rect", { class: "padding", x: -padding, y: -padding, width: whole, height: whole }),
    svg("rect", { class: "ground", width: count, height: count }),
    rows.map((row, y) => row.map((value, x) => cell(value, x, y))),
    svg("rect", { class: "window", x: left, y: top, width: side, height: side }),
  );
}
