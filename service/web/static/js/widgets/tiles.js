// Small pictures at a size that one can see.

import { h } from "../dom.js";

/** @param images `{png, label}`: base64, and what it shows. */
export function tiles(images) {
  return h(
    "ul",
    { class: "tiles" },
    images.map(({ png, label }) =>
      h(
        "li",
        {},
        h("img", { class: "pixelated", src: pngUrl(png), alt: label ?? "" }),
        label && h("span", { class: "small", "aria-hidden": "true" }, label),
      ),
    ),
  );
}

export const pngUrl = (png) => `data:image/png;base64,${png}`;
