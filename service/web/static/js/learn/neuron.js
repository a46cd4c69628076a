// One neuron: its weights, its bias and its activation are set by hand, and the plane shows what it says everywhere.

import { h, put, svg } from "../dom.js";
import { t } from "../i18n.js";
import { choice } from "../widgets/choice.js";
import { slider } from "../widgets/slider.js";
import { ACTIVATIONS } from "./network.js";
import { activationName, dataName, figure, live, options } from "./parts.js";
import { plane } from "./plane.js";

const corners = (...targets) => targets.map((target, at) => [at >> 1, at & 1, target]);
const TASKS = { and: corners(0, 0, 0, 1), or: corners(0, 1, 1, 1), xor: corners(0, 1, 1, 0) };
const SQUASHED = new Set(["sigmoid", "step"]); // their outputs are between 0 and 1, and 0.5 is the border
const [FROM, TO] = [-1, 2];
// The weights of the first example in the text.
const START = { w1: 2, w2: -1, b: -0.5, x1: 0.9, x2: 0.4, activation: "step", task: "and" };

export function mount(element, { signal, memory = {} }) {
  const set = Object.assign(memory, { ...START, ...memory });
  const view = plane({ from: FROM, to: TO, label: t("neuron.surface"), signal });
  const input = svg("circle", { class: "input", r: 11 });
  view.drawing.append(input);
  const activations = options(Object.keys(ACTIVATIONS), activationName);
  const sum = h("p", { class: "sum number" });
  const said = live();
  const sliders = Object.fromEntries(
    Object.entries({ x1: "x₁", x2: "x₂", w1: "w₁", w2: "w₂", b: t("neuron.bias") }).map(([name, text]) => {
      const range = name.startsWith("x") ? { min: FROM, max: TO } : { min: -3, max: 3 };
      const show = (value) => figure(value, 1);
      const onmove = (value) => change({ [name]: value });
      return [name, slider({ name: text, ...range, step: 0.1, value: set[name], show, onmove })];
    }),
  );
  const pick = (event) => {
    const [x1, x2] = view.at(event).map((value) => Math.round(10 * value) / 10);
    change({ x1, x2 });
    sliders.x1.value = x1;
    sliders.x2.value = x2;
  };
  view.drawing.addEventListener("pointerdown", (event) => {
    view.drawing.setPointerCapture(event.pointerId);
    pick(event);
  });
  view.drawing.addEventListener("pointermove", (event) => event.buttons && pick(event));

  element.classList.add("lab");
  put(
    element,
    h(
      "div",
      { class: "halves" },
      h("div", { class: "stack" }, view.element, h("p", { class: "quiet small" }, t("neuron.key")), said.element),
      h(
        "div",
        { class: "stack" },
        h(
          "div",
          { class: "row" },
          choice(t("neuron.task"), options(Object.keys(TASKS), dataName), set.task, (task) => change({ task })),
          choice(t("neuron.activation"), activations, set.activation, (activation) => change({ activation })),
        ),
        h("div", { class: "pairs-of-sliders" }, ["w1", "w2", "b"].map((name) => sliders[name].element)),
        h("div", { class: "pairs-of-sliders" }, ["x1", "x2"].map((name) => sliders[name].element)),
        sum,
      ),
    ),
  );
  change({});

  function change(changes) {
    Object.assign(set, changes);
    const { w1, w2, b, x1, x2 } = set;
    const [act] = ACTIVATIONS[set.activation];
    const z = (x, y) => w1 * x + w2 * y + b;
    const squashed = SQUASHED.has(set.activation);
    view.paint((x, y) => (squashed ? act(z(x, y)) : 0.5 + Math.max(-0.5, Math.min(0.5, act(z(x, y)) / 4))), z);
    view.mark(TASKS[set.task]);
    input.setAttribute("cx", view.across(x1));
    input.setAttribute("cy", view.down(x2));
    const term = (value) => (value < 0 ? `(${figure(value, 1)})` : figure(value, 1));
    const total = z(x1, x2);
    put(
      sum,
      h("span", {}, `${term(w1)} · ${term(x1)} + ${term(w2)} · ${term(x2)} + ${term(b)} = ${figure(total, 2)}`),
      h("strong", {}, `${activationName(set.activation)}(${figure(total, 2)}) = ${figure(act(total), 2)}`),
    );
    const points = TASKS[set.task];
    const right = points.filter(([x, y, target]) => z(x, y) > 1e-9 === Boolean(target)).length;
    said.say(t(right === points.length ? "neuron.solved" : "neuron.right", { right, task: dataName(set.task) }));
  }
}
