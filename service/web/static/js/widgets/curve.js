// Precision over recall, with the point of the threshold that is set; pointing at the curve sets it.

import { h, put, svg } from "../dom.js";
import { percent, t } from "../i18n.js";

export const WIDTH = 340;
export const HEIGHT = 240;
const EDGE = { left: 54, right: 16, top: 10, bottom: 36 };
export const x = (recall) => EDGE.left + recall * (WIDTH - EDGE.left - EDGE.right);
export const y = (precision) => HEIGHT - EDGE.bottom - precision * (HEIGHT - EDGE.top - EDGE.bottom);

/**
 * @param curve `{precision, recall}` by the index of the threshold.
 * @param onpick is given the index of the threshold that somebody points at.
 */
export function precisionRecall(onpick) {
  const plot = svg("svg", { class: "chart", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img" });
  const path = svg("polyline", { class: "curve" });
  const across = svg("line", { class: "cross" });
  const down = svg("line", { class: "cross" });
  const point = svg("circle", { class: "point", r: 6 });
  let curve = null;
  put(plot, grid(), path, across, down, point);
  plot.addEventListener("pointerdown", (event) => {
    plot.setPointerCapture(event.pointerId);
    pick(event);
  });
  plot.addEventListener("pointermove", (event) => event.buttons && pick(event));

  function pick(event) {
    const box = plot.getBoundingClientRect();
    const at = {
      x: ((event.clientX - box.left) / box.width) * WIDTH,
      y: ((event.clientY - box.top) / box.height) * HEIGHT,
    };
    let best = 0;
    let least = Infinity;
    curve.recall.forEach((recall, index) => {
      const distance = recall ? (x(recall) - at.x) ** 2 + (y(curve.precision[index]) - at.y) ** 2 : Infinity;
      if (distance < least) [best, least] = [index, distance];
    });
    onpick(best);
  }

  return {
    element: h("figure", { class: "plot" }, plot),
    /** Draws another curve. */
    draw(drawn) {
      curve = drawn;
      const points = curve.recall.flatMap((recall, index) =>
        recall ? [`${x(recall).toFixed(1)},${y(curve.precision[index]).toFixed(1)}`] : [],
      );
      path.setAttribute("points", points.join(" "));
    },
    /** Moves the point to a threshold. */
    move(index) {
      const [recall, precision] = [curve.recall[index], curve.precision[index]];
      const place = { cx: x(recall), cy: y(precision) };
      for (const [name, value] of Object.entries(place)) point.setAttribute(name, value);
      line(across, x(0), place.cy, place.cx, place.cy);
      line(down, place.cx, place.cy, place.cx, y(0));
      plot.setAttribute("aria-label", t("curve.label", { precision: percent(precision), recall: percent(recall) }));
    },
  };
}

function line(element, x1, y1, x2, y2) {
  for (const [name, value] of Object.entries({ x1, y1, x2, y2 })) element.setAttribute(name, value);
}

/** The axes, both from 0 to 1. */
export function grid() {
  const shares = [0, 0.25, 0.5, 0.75, 1];
  return svg(
    "g",
    { "aria-hidden": "true" },
    shares.flatMap((share) => [
      svg("line", { class: "grid", x1: x(0), y1: y(share), x2: x(1), y2: y(share) }),
      svg("line", { class: "grid", x1: x(share), y1: y(0), x2: x(share), y2: y(1) }),
      svg("text", { x: x(0) - 6, y: y(share) + 4, "text-anchor": "end" }, share.toFixed(2)),
      svg("text", { x: x(share), y: y(0) + 14, "text-anchor": "middle" }, share.toFixed(2)),
    ]),
    svg("text", { x: (x(0) + x(1)) / 2, y: HEIGHT - 4, "text-anchor": "middle" }, t("curve.recall")),
    svg(
      "text",
      { x: 13, y: (y(0) + y(1)) / 2, "text-anchor": "middle", transform: `rotate(-90 13 ${(y(0) + y(1)) / 2})` },
      t("curve.precision"),
    ),
  );
}
