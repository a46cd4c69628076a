// Lines over time with their newest values; pointing at the chart shows those of another moment.

import { h, put, svg } from "../dom.js";
import { moment, t } from "../i18n.js";

const WIDTH = 340;
const HEIGHT = 135;
const EDGE = { left: 54, right: 10, top: 12, bottom: 24 };
const LEAST_SECONDS = 300; // of the axis, also where there are a few points only

/**
 * A chart that `draw(times, step, lines)` fills: Unix times, the seconds between them where none is missing, and
 * `{name, values}` of each line, with null where there is nothing to draw.
 *
 * @param write writes a value.
 */
export function timeline(title, write) {
  const plot = svg("svg", { class: "chart timeline", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img" });
  const legend = h("ul", { class: "legend small" });
  const cursor = svg("line", { class: "cross", y1: EDGE.top, y2: HEIGHT - EDGE.bottom });
  const element = h("figure", { class: "card stack plot" }, h("h3", {}, title), plot, legend);
  let drawn = null;
  plot.addEventListener("pointermove", (event) => drawn && tell(nearest(event)));
  plot.addEventListener("pointerleave", () => drawn && tell(null));
  return { element, draw };

  function draw(times, step, lines) {
    const from = Math.min(times[0], times.at(-1) - LEAST_SECONDS);
    const top = ceiling(Math.max(0, ...lines.flatMap(({ values }) => values)));
    const x = (time) => EDGE.left + ((time - from) / (times.at(-1) - from)) * (WIDTH - EDGE.left - EDGE.right);
    const y = (value) => HEIGHT - EDGE.bottom - (value / top) * (HEIGHT - EDGE.top - EDGE.bottom);
    drawn = { times, lines, x };
    put(
      plot,
      [0, top / 2, top].map((value) => [
        svg("line", { class: "grid", x1: EDGE.left, x2: WIDTH - EDGE.right, y1: y(value), y2: y(value) }),
        svg("text", { x: EDGE.left - 6, y: y(value) + 4, "text-anchor": "end" }, value ? write(value) : "0"),
      ]),
      svg("text", { x: EDGE.left, y: HEIGHT - 6 }, moment(from)),
      svg("text", { x: WIDTH - EDGE.right, y: HEIGHT - 6, "text-anchor": "end" }, moment(times.at(-1))),
      lines.map(({ values }, index) =>
        svg("path", { class: `line of-${index}`, d: path(times, values, 1.5 * step, x, y) }),
      ),
      cursor,
    );
    plot.setAttribute("aria-label", [title, ...lines.map(summary)].join(". "));
    tell(null);
  }

  /** Shows the values at a point; the newest without one. */
  function tell(at) {
    const { times, lines, x } = drawn;
    cursor.style.display = at === null ? "none" : "";
    for (const side of ["x1", "x2"]) cursor.setAttribute(side, x(times[at ?? 0]));
    put(
      legend,
      lines.map(({ name, values }, index) =>
        h("li", {}, h("span", { class: `key of-${index}`, "aria-hidden": "true" }), name, " ", value(values, at)),
      ),
      at !== null && h("li", { class: "quiet" }, moment(times[at])),
    );
  }

  function nearest(event) {
    const box = plot.getBoundingClientRect();
    const place = ((event.clientX - box.left) / box.width) * WIDTH;
    const far = (index) => Math.abs(drawn.x(drawn.times[index]) - place);
    return drawn.times.reduce((best, _, index) => (far(index) < far(best) ? index : best), 0);
  }

  function value(values, at) {
    const found = values.at(at ?? -1);
    return h("strong", {}, found === null ? "–" : write(found));
  }

  function summary({ name, values }) {
    const known = values.filter((each) => each !== null);
    if (!known.length) return t("hour.nothing", { name });
    const now = values.at(-1);
    return t("hour.summary", { name, now: now === null ? "–" : write(now), most: write(Math.max(...known)) });
  }
}

/** A round number that is no less. */
function ceiling(value) {
  if (!value) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return power * [1, 2, 4, 6, 10].find((each) => each * power >= 0.9999 * value);
}

/** The line through the points, interrupted where one is missing. */
function path(times, values, gap, x, y) {
  let before = -Infinity;
  return values
    .flatMap((value, index) => {
      if (value === null) return [];
      const joined = times[index] - before < gap;
      before = times[index];
      // A point between two gaps is a dot.
      return `${joined ? "L" : "M"}${x(times[index]).toFixed(1)} ${y(value).toFixed(1)}${joined ? "" : "h0"}`;
    })
    .join("");
}
