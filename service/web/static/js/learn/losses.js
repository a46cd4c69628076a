// The curve of a loss, with the loss of a network that knows nothing.

import { put, svg } from "../dom.js";
import { t } from "../i18n.js";

const [WIDTH, HEIGHT] = [300, 120];
const CHANCE = Math.log(2); // the cross-entropy of the answer 0.5 to everything

export function lossCurve() {
  const curve = svg("polyline", { class: "curve" });
  const chance = svg(
    "g",
    {},
    svg("line", { class: "cross", x2: WIDTH }),
    svg("text", { x: WIDTH - 4, y: -5, "text-anchor": "end" }, t("xor.chance")),
  );
  const element = svg("svg", {
    class: "chart still",
    viewBox: `-4 -6 ${WIDTH + 8} ${HEIGHT + 12}`,
    role: "img",
    "aria-label": t("xor.curve"),
  });
  put(element, svg("text", { x: 2, y: 12 }, t("xor.loss")), chance, curve);
  return {
    element,
    draw(losses) {
      const top = Math.max(1, ...losses);
      const along = Math.max(1, losses.length - 1);
      const height = (loss) => HEIGHT * (1 - loss / top);
      const points = losses.map((loss, at) => `${((WIDTH * at) / along).toFixed(1)},${height(loss).toFixed(1)}`);
      curve.setAttribute("points", points.join(" "));
      chance.setAttribute("transform", `translate(0 ${height(CHANCE)})`);
    },
  };
}
