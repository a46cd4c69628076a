// Average precision, box by box: the boxes found in one picture, from the highest score to the lowest.

import { h, put, svg } from "../dom.js";
import { number, t } from "../i18n.js";
import { nameOf } from "../names.js";
import { HEIGHT, WIDTH, grid, x, y } from "../widgets/curve.js";
import { slider } from "../widgets/slider.js";
import { button, live } from "./parts.js";

/** Precision and recall after each box, from whether it is a hit. */
export function curveOf(hits, truths) {
  let right = 0;
  return hits.map((hit, index) => {
    right += hit ? 1 : 0;
    return { precision: right / (index + 1), recall: right / truths };
  });
}

/** The envelope: for each recall that is reached, the highest precision at this or a higher one. */
export function envelope(points) {
  const steps = [];
  let best = 0;
  for (let at = points.length - 1; at >= 0; at--) {
    best = Math.max(best, points[at].precision);
    const before = points[at - 1]?.recall ?? 0;
    if (points[at].recall > before) steps.unshift({ from: before, to: points[at].recall, precision: best });
  }
  return steps;
}

/** The area below the envelope. */
export const areaOf = (points) =>
  envelope(points).reduce((sum, { from, to, precision }) => sum + (to - from) * precision, 0);

export async function mount(element, { file, signal, memory = {} }) {
  const answer = await fetch(file("ap/ap.json"), { signal });
  if (!answer.ok) throw new Error(`${answer.status} for ap.json`);
  const data = await answer.json();
  const { boxes, truths } = data;
  const label = nameOf(data.label, "BCCD");
  const points = curveOf(boxes.map(({ hit }) => hit), truths.length);
  const picture = svg("g");
  const view = svg(
    "svg",
    {
      class: "scene",
      viewBox: `0 0 ${data.width} ${data.height}`,
      role: "img",
      "aria-label": t("ap.picture", { label }),
    },
    svg("image", { href: file(`ap/${data.image}`), width: data.width, height: data.height }),
    picture,
  );
  const plot = svg("svg", { class: "chart still", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img" });
  const head = [t("ap.box"), t("ap.score"), "IoU", t("ap.hit"), t("ap.precision"), t("ap.recall")];
  const body = h("tbody");
  const said = live();
  const taken = slider({
    name: t("ap.taken"),
    min: 0,
    max: boxes.length,
    step: 1,
    value: memory.taken ?? 0,
    show: (count) => t("ap.of", { count, all: boxes.length }),
    onmove: draw,
  });
  const go = (by) => () => {
    taken.value = Math.max(0, Math.min(boxes.length, taken.value + by));
    draw();
  };
  element.classList.add("lab");
  put(
    element,
    h(
      "div",
      { class: "halves" },
      h("div", { class: "stack" }, view, h("p", { class: "quiet small" }, t("ap.key", { label }))),
      h("div", { class: "stack" }, plot, h("p", { class: "quiet small" }, t("ap.lines"))),
    ),
    h(
      "div",
      { class: "row" },
      button(t("ap.back"), go(-1)),
      button(t("ap.next"), go(1), { class: "primary" }),
      h("div", { class: "grow" }, taken.element),
    ),
    said.element,
    h(
      "div",
      { class: "table", tabindex: "0", role: "region", "aria-label": t("ap.table") },
      h(
        "table",
        { class: "number" },
        h("thead", {}, h("tr", {}, head.map((each) => h("th", { scope: "col" }, each)))),
        body,
      ),
    ),
  );
  draw();

  function draw() {
    const count = (memory.taken = taken.value);
    const area = areaOf(points.slice(0, count));
    put(
      picture,
      truths.map((box) => frame(box, "truth")),
      boxes.slice(0, count).map(({ box, hit }, index) => [
        frame(box, `${hit ? "hit" : "miss"}${index === count - 1 ? " last" : ""}`),
        svg("text", { x: box[0] + 4, y: box[1] + 4, "font-size": data.width / 24 }, index + 1),
      ]),
    );
    drawPlot(count);
    plot.setAttribute("aria-label", t("ap.plot", { count, area: number(area, 3) }));
    put(
      body,
      boxes.map(({ score, iou, hit }, index) =>
        h(
          "tr",
          { class: index < count ? (index === count - 1 ? "last" : null) : "later" },
          h("th", { scope: "row" }, index + 1),
          [number(score, 3), number(iou, 2), t(hit ? "ap.yes" : "ap.no")].map((each) => h("td", {}, each)),
          index < count
            ? [
                h("td", {}, fraction(points[index].precision, index + 1)),
                h("td", {}, fraction(points[index].recall, truths.length)),
              ]
            : [h("td", {}, "–"), h("td", {}, "–")],
        ),
      ),
    );
    const last = points[count - 1];
    if (!last) said.say(t("ap.none", { truths: truths.length, label }));
    else {
      const [precision, recall] = [number(last.precision, 3), number(last.recall, 3)];
      const key = boxes[count - 1].hit ? "ap.step.hit" : "ap.step.miss";
      said.say(t(key, { number: count, precision, recall, area: number(area, 3) }));
    }
  }

  function drawPlot(count) {
    const shown = points.slice(0, count);
    const steps = envelope(shown);
    const zigzag = shown.map(({ recall, precision }) => `${x(recall)},${y(precision)}`);
    const stairs = steps.map(({ from, to, precision }) => `M${x(from)} ${y(precision)}H${x(to)}`).join("");
    const ground = steps.map(({ from, to, precision }) =>
      svg("rect", { class: "area", x: x(from), y: y(precision), width: x(to) - x(from), height: y(0) - y(precision) }),
    );
    put(
      plot,
      grid(),
      ground,
      svg("polyline", { class: "zigzag", points: zigzag.join(" ") }),
      svg("path", { class: "curve", d: stairs || "M0 0" }),
      shown.map(({ recall, precision }, index) => {
        const look = index === count - 1 ? { class: "point", r: 6 } : { class: "dot", r: 3 };
        return svg("circle", { ...look, cx: x(recall), cy: y(precision) });
      }),
    );
  }
}

const fraction = (share, of) => `${Math.round(share * of)}/${of} = ${number(share, 3)}`;

function frame([left, top, right, bottom], kind) {
  return svg("rect", { class: kind, x: left, y: top, width: right - left, height: bottom - top });
}
