// Two boxes that can be moved and resized, and their intersection over union.

import { h, put, svg } from "../dom.js";
import { number, t } from "../i18n.js";
import { HEIGHT, WIDTH, area, intersection, moved, overlap } from "./geometry.js";
import { button, live } from "./parts.js";

const START = {
  example: { true: [4, 3, 8, 6], found: [6, 4, 10, 7] }, // of the text
  third: { true: [3, 2, 9, 8], found: [5, 2, 11, 8] },
  close: { true: [3, 2, 11, 8], found: [4, 2, 12, 8] },
  inside: { true: [3, 1, 12, 9], found: [5, 3, 11, 7] },
};
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const CORNERS = [[0, 1], [2, 1], [0, 3], [2, 3]]; // the edges that meet there
const NEEDED = [0.5, 0.75];

export function mount(element, { memory = {} }) {
  memory.boxes ??= structuredClone(START.example);
  const { boxes } = memory;
  const shared = svg("rect", { class: "shared" });
  const shapes = Object.fromEntries(Object.keys(boxes).map((name) => [name, shape(name)]));
  const stage = svg(
    "svg",
    {
      class: "boxes-stage",
      viewBox: `-.5 -.5 ${WIDTH + 1} ${HEIGHT + 1}`,
      role: "group",
      "aria-label": t("iou.stage"),
    },
    lattice(),
    shared,
    Object.values(shapes).map(({ group }) => group),
  );
  const figures = h("dl", { class: "number terms" });
  const fill = h("div", { class: "bar-fill" });
  const said = live();
  const set = (name) => {
    Object.assign(boxes, structuredClone(START[name]));
    draw();
  };
  element.classList.add("lab");
  put(
    element,
    h(
      "div",
      { class: "halves" },
      h("div", { class: "stack" }, stage, h("p", { class: "quiet small" }, t("iou.hint"))),
      h(
        "div",
        { class: "stack" },
        h("div", { class: "row" }, Object.keys(START).map((name) => button(t(`iou.start.${name}`), () => set(name)))),
        figures,
        h("div", { class: "gauge", "aria-hidden": "true" }, fill, NEEDED.map(needle)),
        said.element,
      ),
    ),
  );
  draw();

  function shape(name) {
    const rect = svg("rect", { class: "body" });
    const corners = CORNERS.map((edges) => [edges, svg("circle", { class: "corner", r: 0.32 })]);
    const label = svg("text", {}, t(`iou.${name}`));
    const group = svg(
      "g",
      { class: `box-shape ${name}`, tabindex: "0", role: "application", onkeydown: key },
      rect,
      label,
      corners.map(([, corner]) => corner),
    );
    grab(rect, [0, 1, 2, 3]);
    for (const [edges, corner] of corners) grab(corner, edges);
    return { group, rect, label, corners };

    function grab(handle, edges) {
      let from = null;
      handle.addEventListener("pointerdown", (event) => {
        from = { x: event.clientX, y: event.clientY, box: [...boxes[name]] };
        handle.setPointerCapture(event.pointerId);
        group.parentNode.append(group); // on top
        group.focus({ preventScroll: true });
        event.preventDefault();
      });
      handle.addEventListener("pointermove", (event) => {
        if (!from || !event.buttons) return;
        const unit = stage.getBoundingClientRect().width / (WIDTH + 1);
        const by = [(event.clientX - from.x) / unit, (event.clientY - from.y) / unit].map(Math.round);
        boxes[name] = moved(from.box, by, edges);
        draw();
      });
      for (const end of ["pointerup", "pointercancel"]) handle.addEventListener(end, () => (from = null));
    }

    function key(event) {
      const by = ARROWS[event.key];
      if (!by) return;
      event.preventDefault();
      boxes[name] = moved(boxes[name], by, event.shiftKey ? [2, 3] : [0, 1, 2, 3]);
      draw();
    }
  }

  function draw() {
    for (const [name, { group, rect, label, corners }] of Object.entries(shapes)) {
      const box = boxes[name];
      place(rect, box);
      for (const [[x, y], corner] of corners) {
        corner.setAttribute("cx", box[x]);
        corner.setAttribute("cy", box[y]);
      }
      // Outside the box, but inside the plane.
      label.setAttribute("x", box[0]);
      label.setAttribute("y", name === "true" ? Math.max(box[1] - 0.5, 0.3) : Math.min(box[3] + 0.95, HEIGHT + 0.1));
      const [left, top, right, bottom] = box;
      group.setAttribute("aria-label", t("iou.box", { name: t(`iou.${name}`), left, top, right, bottom }));
    }
    const both = intersection(boxes.true, boxes.found);
    place(shared, area(both) ? both : [0, 0, 0, 0]);
    const common = both[2] > both[0] ? area(both) : 0;
    const [first, second] = [area(boxes.true), area(boxes.found)];
    const iou = overlap(boxes.true, boxes.found);
    const sides = (box) => `${box[2] - box[0]} × ${box[3] - box[1]} = ${number(area(box))}`;
    put(
      figures,
      row(t("iou.true"), sides(boxes.true)),
      row(t("iou.found"), sides(boxes.found)),
      row(t("iou.intersection"), common ? sides(both) : "0"),
      row(t("iou.union"), `${first} + ${second} − ${common} = ${number(first + second - common)}`),
      row("IoU", `${common} / ${first + second - common} = ${number(iou, 2)}`),
    );
    fill.style.width = `${100 * iou}%`;
    said.say(t(iou >= NEEDED[1] ? "iou.both" : iou >= NEEDED[0] ? "iou.one" : "iou.none", { iou: number(iou, 2) }));
  }
}

const row = (name, value) => [h("dt", {}, name), h("dd", {}, value)];

function needle(at) {
  const mark = h("span", {}, number(at, at * 10 === Math.round(at * 10) ? 1 : 2));
  mark.style.left = `${100 * at}%`;
  return mark;
}

function place(rect, [left, top, right, bottom]) {
  const size = { x: left, y: top, width: Math.max(0, right - left), height: Math.max(0, bottom - top) };
  for (const [name, value] of Object.entries(size)) rect.setAttribute(name, value);
}

function lattice() {
  const upright = Array.from({ length: WIDTH + 1 }, (_, x) => svg("line", { x1: x, x2: x, y2: HEIGHT }));
  const level = Array.from({ length: HEIGHT + 1 }, (_, y) => svg("line", { y1: y, y2: y, x2: WIDTH }));
  return svg("g", { class: "lattice", "aria-hidden": "true" }, upright, level);
}
