// A playground: a network of two inputs and one hidden layer learns four points, or a circle, in the browser.

import { h, put } from "../dom.js";
import { number, t } from "../i18n.js";
import { choice } from "../widgets/choice.js";
import { slider } from "../widgets/slider.js";
import { lossCurve } from "./losses.js";
import { network, random } from "./network.js";
import { activationName, button, dataName, figure, live, options, player, table } from "./parts.js";
import { plane } from "./plane.js";

const corners = (...targets) => targets.map((target, at) => [at >> 1, at & 1, target]);
const DATA = { xor: corners(0, 1, 1, 0), and: corners(0, 0, 0, 1), or: corners(0, 1, 1, 1), circle: circle() };
const RATES = [0.03, 0.1, 0.3, 1, 3];
const STEPS = 3; // in each frame
const ENOUGH = 0.02; // a loss with which it stops
const MOST = 20_000; // steps
const KEPT = 300; // points of the loss curve

function circle() {
  const next = random(5);
  return Array.from({ length: 60 }, (_, at) => {
    const [angle, radius] = [2 * Math.PI * next(), at % 2 ? 0.42 * Math.sqrt(next()) : 0.62 + 0.3 * next()];
    return [0.5 + radius * Math.cos(angle), 0.5 + radius * Math.sin(angle), at % 2];
  });
}

export function mount(element, { signal, memory = {} }) {
  const chosen = Object.assign(memory, { data: "xor", hidden: 2, activation: "tanh", rate: 2, seed: 10, ...memory });
  const surface = plane({ from: -0.5, to: 1.5, label: t("xor.surface"), signal });
  const figures = h("p", { class: "number" });
  const said = live();
  const curve = lossCurve();
  const weights = h("div", { class: "table" });
  const play = player({ tick: (frames) => advance(STEPS * frames), onpause: announce, within: element, signal });
  let net;
  let steps;
  let losses; // every `stride` steps
  let stride;

  const again = (name) => (value) => {
    chosen[name] = value;
    start();
  };
  element.classList.add("lab");
  put(
    element,
    h(
      "div",
      { class: "halves" },
      h("div", { class: "stack" }, surface.element, h("p", { class: "quiet small" }, t("xor.key")), said.element),
      h(
        "div",
        { class: "stack" },
        h(
          "div",
          { class: "row" },
          choice(t("xor.data"), options(Object.keys(DATA), dataName), chosen.data, again("data")),
          choice(
            t("neuron.activation"),
            options(["none", "relu", "sigmoid", "tanh"], activationName),
            chosen.activation,
            again("activation"),
          ),
        ),
        slider({
          name: t("xor.hidden"), min: 0, max: 8, step: 1, value: chosen.hidden, show: number, onmove: again("hidden"),
        }).element,
        slider({
          name: t("xor.rate"),
          min: 0,
          max: RATES.length - 1,
          step: 1,
          value: chosen.rate,
          show: (at) => String(RATES[at]),
          onmove: (at) => (chosen.rate = at),
        }).element,
        h(
          "div",
          { class: "row" },
          play.toggle,
          button(t("xor.step"), () => {
            play.pause();
            advance(1);
            announce();
          }),
          button(t("xor.reset"), start),
          button(t("xor.other"), () => again("seed")(chosen.seed + 1)),
        ),
        figures,
        curve.element,
      ),
    ),
    h("details", {}, h("summary", {}, t("xor.weights")), weights),
  );
  start();

  function start() {
    play.pause();
    net = network(chosen.hidden, chosen.activation, chosen.seed);
    [steps, stride] = [0, 1];
    losses = [net.loss(DATA[chosen.data])];
    surface.mark(DATA[chosen.data]);
    said.say("");
    draw();
  }

  /** Takes steps, and says whether there is more to learn. */
  function advance(count) {
    const points = DATA[chosen.data];
    for (let each = 0; each < count; each++) {
      net.step(points, RATES[chosen.rate]);
      steps++;
      if (steps % stride) continue;
      losses.push(net.loss(points));
      if (losses.length <= KEPT) continue;
      losses = losses.filter((_, at) => at % 2 === 0);
      stride *= 2;
    }
    draw();
    return net.loss(points) > ENOUGH && steps < MOST;
  }

  function draw() {
    const points = DATA[chosen.data];
    surface.paint(net.predict);
    surface.rule(hiddenUnits().map(([a, b, c]) => [a, b, c]));
    const values = { steps: number(steps), loss: number(net.loss(points), 3), right: net.right(points) };
    put(figures, t("xor.figures", { ...values, count: points.length }));
    curve.draw(losses);
    put(weights, weightTable());
  }

  /** Two weights, the bias and the weight to the output of each hidden unit. */
  function hiddenUnits() {
    return Array.from({ length: chosen.hidden }, (_, at) => [...net.weights.slice(4 * at, 4 * at + 4)]);
  }

  function weightTable() {
    const all = hiddenUnits().map((unit, at) => [`h${String.fromCharCode(0x2081 + at)}`, ...unit.map(signed)]);
    const last = [...net.weights.slice(4 * chosen.hidden)];
    all.push([t("xor.output"), ...(chosen.hidden ? ["", "", signed(last[0]), ""] : [...last.map(signed), ""])]);
    return table(t("xor.weights"), ["", "x₁", "x₂", t("neuron.bias"), t("xor.to")], all);
  }

  function announce() {
    const points = DATA[chosen.data];
    const right = net.right(points);
    const key = right === points.length ? "xor.solved" : steps > 500 ? "xor.stuck" : "xor.paused";
    said.say(t(key, { right, count: points.length, steps: number(steps) }));
  }
}

function signed(value) {
  const cell = h("td", { class: value < 0 ? "minus" : "plus" }, figure(value, 2));
  cell.style.setProperty("--share", `${Math.min(45, Math.abs(value) * 10)}%`);
  return cell;
}
