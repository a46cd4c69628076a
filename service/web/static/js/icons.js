// The panels' signs, drawn on 24 by 24.

import { svg } from "./dom.js";

const PATHS = {
  classify: "M4 5h16v14H4zM4 16l5-5 4 4 3-3 4 4M15.5 9h.01",
  detect: "M4 8V4h4M16 4h4v4M20 16v4h-4M8 20H4v-4M9 9h6v6H9z",
  generate: "M11 4l2 6 6 2-6 2-2 6-2-6-6-2 6-2zM19 3v4M17 5h4",
  read: "M5 5h14M5 10h14M5 15h14M5 20h8",
  numbers: "M4 20h17M6 16v-5M11 16V5M16 16v-8M20 16v-3",
  status: "M3 13h4l3-8 4 14 3-6h4",
  learn: "M12 6c-2-2-5-2-8-2v14c3 0 6 0 8 2 2-2 5-2 8-2V4c-3 0-6 0-8 2zM12 6v14",
  models: "M12 3l9 5-9 5-9-5zM3 12.5l9 5 9-5M3 17l9 5 9-5",
};

export const icon = (id) =>
  svg("svg", { class: "icon", viewBox: "0 0 24 24", "aria-hidden": "true" }, svg("path", { d: PATHS[id] ?? "" }));
