// Latents as bars.

import { svg } from "../dom.js";

const WIDTH = 10; // of a bar

export function latentBars(values) {
  const most = Math.max(...values.map(Math.abs)) || 1;
  return svg(
    "svg",
    {
      class: "latents",
      viewBox: `0 0 ${WIDTH * values.length} 100`,
      preserveAspectRatio: "none",
      role: "img",
      "aria-label": values.map((value) => value.toFixed(1)).join(", "),
    },
    svg("line", { class: "grid", x1: 0, x2: WIDTH * values.length, y1: 50, y2: 50 }),
    values.map((value, index) => {
      const height = (48 * Math.abs(value)) / most;
      return svg("rect", { x: index * WIDTH + 1, width: WIDTH - 2, y: value > 0 ? 50 - height : 50, height });
    }),
  );
}
