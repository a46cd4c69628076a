// A plane with two axes: a colour for what a network says at each place, points of two classes, and lines.

import { h, put, svg } from "../dom.js";
import { number } from "../i18n.js";
import { colour, onTheme } from "./parts.js";

const SIZE = 300;
const CELLS = 100; // of the colours, along each side
const CORNERS = [[0, 0], [1, 0], [1, 1], [0, 1]];

/**
 * @param from lowest value of both axes; `to` is the highest.
 * @param label says what the plane shows.
 */
export function plane({ from, to, label, names = ["x₁", "x₂"], signal }) {
  const canvas = h("canvas", { width: CELLS, height: CELLS, "aria-hidden": "true" });
  const lines = svg("g");
  const points = svg("g");
  const levels = new Float64Array(CELLS * CELLS);
  const border = svg("path", { class: "border" });
  const drawing = svg(
    "svg",
    { viewBox: `0 0 ${SIZE} ${SIZE}`, role: "img", "aria-label": label },
    axes(),
    border,
    lines,
    points,
  );
  const context = canvas.getContext("2d");
  const pixels = context.createImageData(CELLS, CELLS);
  let shown = null;
  onTheme(() => shown && paint(...shown), signal);

  const across = (value) => (SIZE * (value - from)) / (to - from);
  const down = (value) => SIZE - across(value);

  function axes() {
    const step = to - from > 4 ? 2 : 1;
    const ticks = [];
    for (let at = Math.ceil(from / step) * step; at < to; at += step) {
      const along = (SIZE * (at - from)) / (to - from);
      ticks.push(
        svg("line", { class: "grid", x1: along, x2: along, y1: 0, y2: SIZE }),
        svg("line", { class: "grid", x1: 0, x2: SIZE, y1: SIZE - along, y2: SIZE - along }),
        svg("text", { x: along + 3, y: SIZE - 4 }, number(at + 0)),
        svg("text", { x: 3, y: SIZE - along - 4 }, number(at + 0)),
      );
    }
    return svg(
      "g",
      { "aria-hidden": "true" },
      ticks,
      svg("text", { class: "axis", x: SIZE - 6, y: SIZE - 6, "text-anchor": "end" }, names[0]),
      svg("text", { class: "axis", x: 5, y: 16 }, names[1]),
    );
  }

  /**
   * @param share of class 1 at a place, from 0 to 1.
   * @param level is 0 at the border.
   */
  function paint(share, level = null) {
    shown = [share, level];
    const [first, second, middle] = ["--warm", "--accent", "--sheet"].map((name) => colour(canvas, name));
    for (let row = 0; row < CELLS; row++) {
      for (let column = 0; column < CELLS; column++) {
        const [x, y] = [valueAt(column), valueAt(CELLS - 1 - row)];
        const value = share(x, y);
        const end = value > 0.5 ? second : first;
        const weight = 0.6 * Math.min(1, Math.abs(2 * value - 1));
        const at = 4 * (row * CELLS + column);
        for (let each = 0; each < 3; each++) {
          pixels.data[at + each] = middle[each] + weight * (end[each] - middle[each]);
        }
        pixels.data[at + 3] = 255;
        levels[row * CELLS + column] = level ? level(x, y) : value - 0.5;
      }
    }
    context.putImageData(pixels, 0, 0);
    border.setAttribute("d", contour(levels));
  }

  const valueAt = (cell) => from + ((cell + 0.5) * (to - from)) / CELLS;

  return {
    element: h("div", { class: "plane" }, canvas, drawing),
    drawing,
    paint,
    describe: (text) => drawing.setAttribute("aria-label", text),
    /** Discs are of class 0, squares of class 1. */
    mark(marks) {
      const size = marks.length > 9 ? 4.5 : 6.5;
      put(
        points,
        marks.map(([x, y, target]) =>
          target
            ? svg("rect", { class: "one", x: across(x) - size, y: down(y) - size, width: 2 * size, height: 2 * size })
            : svg("circle", { class: "zero", cx: across(x), cy: down(y), r: size }),
        ),
      );
    },
    /** Lines on which `a·x + b·y + c` is 0. */
    rule(given) {
      put(
        lines,
        given.map(([a, b, c]) => {
          const steep = Math.abs(a) > Math.abs(b);
          if (!a && !b) return null;
          const ends = [from, to].map((at) => (steep ? [-(b * at + c) / a, at] : [at, -(a * at + c) / b]));
          const [[x1, y1], [x2, y2]] = ends;
          return svg("line", { class: "rule", x1: across(x1), y1: down(y1), x2: across(x2), y2: down(y2) });
        }),
      );
    },
    /** Where a pointer is, in the plane's values. */
    at(event) {
      const box = drawing.getBoundingClientRect();
      const value = (share) => Math.min(to, Math.max(from, from + share * (to - from)));
      return [value((event.clientX - box.left) / box.width), value(1 - (event.clientY - box.top) / box.height)];
    },
    across,
    down,
  };
}

/** Where the levels of the cells, row by row, cross 0 (marching squares): a path. */
function contour(levels) {
  const path = [];
  const place = (x, y) => `${((SIZE / CELLS) * (x + 0.5)).toFixed(1)} ${((SIZE / CELLS) * (y + 0.5)).toFixed(1)}`;
  for (let row = 0; row < CELLS - 1; row++) {
    for (let column = 0; column < CELLS - 1; column++) {
      const first = CELLS * row + column;
      const around = [levels[first], levels[first + 1], levels[first + CELLS + 1], levels[first + CELLS]];
      const above = around.filter((level) => level > 0).length;
      if (above === 0 || above === 4) continue;
      const crossed = [];
      around.forEach((level, at) => {
        const next = around[(at + 1) % 4];
        if (level > 0 === next > 0) return;
        const [[x, y], [nextX, nextY]] = [CORNERS[at], CORNERS[(at + 1) % 4]];
        const share = level / (level - next);
        crossed.push(place(column + x + share * (nextX - x), row + y + share * (nextY - y)));
      });
      for (let at = 0; at + 1 < crossed.length; at += 2) path.push(`M${crossed[at]}L${crossed[at + 1]}`);
    }
  }
  return path.join("");
}
