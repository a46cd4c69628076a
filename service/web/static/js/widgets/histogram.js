// Two distributions over the same bins: of validation, and of what came lately.

import { h, note, svg } from "../dom.js";
import { brief, t } from "../i18n.js";
import { meter } from "./meter.js";

const WIDTH = 420;
const HEIGHT = 130;
const EDGE = { left: 10, right: 10, top: 8, bottom: 24 };
const OUTER = 8; // bins on each side, which are drawn as one
const SHOWN = 12; // categories

/** @param feature of the API's DriftState, with `name` as people say it. */
export const histogram = (feature) => (feature.kind === "number" ? numbers(feature) : categories(feature));

function numbers({ name, edges, reference, window: recent, mean, reference_mean: usual }) {
  const inner = edges.slice(OUTER, edges.length - OUTER);
  const [known, found] = [joined(reference), joined(recent)];
  const most = Math.max(...known, ...found) || 1;
  const width = (WIDTH - EDGE.left - EDGE.right) / known.length;
  const x = (bin) => EDGE.left + bin * width;
  const y = (share) => HEIGHT - EDGE.bottom - (share / most) * (HEIGHT - EDGE.top - EDGE.bottom);
  const steps = found.flatMap((share, bin) => [`${x(bin)},${y(share)}`, `${x(bin + 1)},${y(share)}`]);
  const values = { name, mean: mean === null ? "–" : brief(mean, 3), usual: brief(usual, 3) };
  return h(
    "figure",
    { class: "plot" },
    svg(
      "svg",
      {
        class: "chart still",
        viewBox: `0 0 ${WIDTH} ${HEIGHT}`,
        role: "img",
        "aria-label": t("histogram.numbers", values),
      },
      known.map((share, bin) =>
        svg("rect", { class: "usual", x: x(bin), y: y(share), width, height: y(0) - y(share) }),
      ),
      svg("polyline", { class: "curve lately", points: steps.join(" ") }),
      svg("text", { x: x(1), y: HEIGHT - 6 }, brief(inner[0], 3)),
      svg("text", { x: x(known.length - 1), y: HEIGHT - 6, "text-anchor": "end" }, brief(inner.at(-1), 3)),
    ),
    h("figcaption", { class: "quiet small" }, t("histogram.numbers", values)),
  );
}

/** The inner bins, with all outer ones of each side as one; the last bin, for missing values, is left out. */
function joined(shares) {
  const sum = (some) => some.reduce((total, share) => total + share, 0);
  const bins = shares.slice(0, -1);
  return [sum(bins.slice(0, OUTER)), ...bins.slice(OUTER, -OUTER), sum(bins.slice(-OUTER))];
}

function categories({ categories: names, reference, window: recent }) {
  const order = names.map((_, index) => index);
  order.sort((one, other) => Math.max(reference[other], recent[other]) - Math.max(reference[one], recent[one]));
  return [
    h(
      "ul",
      { class: "pairs" },
      order.slice(0, SHOWN).map((index) =>
        h(
          "li",
          {},
          h("span", { class: "name" }, names[index]),
          h(
            "div",
            {},
            h("div", {}, h("span", { class: "visually-hidden" }, t("histogram.usual")), meter(reference[index], "first")),
            h("div", {}, h("span", { class: "visually-hidden" }, t("histogram.recent")), meter(recent[index], "second")),
          ),
        ),
      ),
    ),
    names.length > SHOWN && note(t("versions.more", { count: names.length - SHOWN })),
  ];
}
