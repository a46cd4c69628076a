// A share over time.

import { h, svg } from "../dom.js";
import { moment, percent, t } from "../i18n.js";

const WIDTH = 420;
const HEIGHT = 130;
const EDGE = { left: 44, right: 14, top: 12, bottom: 24 };

/** @param points `{time, share}` in the order of time, by Unix time; one at least. */
export function trend(points) {
  const [first, last] = [points[0], points.at(-1)];
  const lowest = Math.min(...points.map(({ share }) => share));
  const least = Math.min(0.9, Math.floor(10 * lowest) / 10);
  const span = last.time - first.time || 1;
  const x = (time) => EDGE.left + ((time - first.time) / span) * (WIDTH - EDGE.left - EDGE.right);
  const y = (share) => EDGE.top + ((1 - share) / (1 - least)) * (HEIGHT - EDGE.top - EDGE.bottom);
  const lines = [1, (1 + least) / 2, least].map((share) => [
    svg("line", { class: "grid", x1: EDGE.left, x2: WIDTH - EDGE.right, y1: y(share), y2: y(share) }),
    svg("text", { x: EDGE.left - 6, y: y(share) + 4, "text-anchor": "end" }, percent(share, 0)),
  ]);
  const place = ({ time, share }) => `${x(time).toFixed(1)},${y(share).toFixed(1)}`;
  const label = t("trend.label", {
    from: moment(first.time),
    to: moment(last.time),
    share: percent(last.share),
    lowest: percent(lowest),
  });
  return h(
    "figure",
    { class: "plot" },
    svg(
      "svg",
      { class: "chart still", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": label },
      lines.flat(),
      svg("text", { x: EDGE.left, y: HEIGHT - 6 }, moment(first.time)),
      points.length > 1 &&
        svg("text", { x: WIDTH - EDGE.right, y: HEIGHT - 6, "text-anchor": "end" }, moment(last.time)),
      svg("polyline", { class: "curve", points: points.map(place).join(" ") }),
      svg("circle", { class: "point", cx: x(last.time), cy: y(last.share), r: 4 }),
    ),
  );
}
