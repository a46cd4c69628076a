// Boxes over a picture, which can be pointed at, and a list of them for the keyboard.

import { h, put, svg } from "../dom.js";
import { number, t } from "../i18n.js";
import { colourOf } from "./palette.js";

export function boxView() {
  const image = h("img", { alt: "" });
  const overlay = svg("svg", { class: "overlay", "aria-hidden": "true", preserveAspectRatio: "none" });
  const element = h("div", { class: "boxes" }, image, overlay);
  const list = h("ol", { class: "found" });
  let marks = [];

  function draw(boxes) {
    const unit = overlay.viewBox.baseVal.width / 400;
    marks = boxes.map((box, index) => mark(box, index, unit));
    put(
      overlay,
      marks.map(({ group }) => group),
    );
    put(
      list,
      marks.map(({ item }) => item),
    );
  }

  function mark(box, index, unit) {
    const select = (on) => () => highlight(index, on);
    const text = `${box.label} ${number(box.score, 2)}`;
    const group = svg(
      "g",
      { onpointerenter: select(true), onpointerleave: select(false) },
      svg("rect", { x: box.x_min, y: box.y_min, width: box.x_max - box.x_min, height: box.y_max - box.y_min }),
      svg(
        "text",
        { x: box.x_min + 2 * unit, y: Math.max(box.y_min - 3 * unit, 12 * unit), "font-size": 11 * unit },
        text,
      ),
    );
    const dot = h("span", { class: "dot", "aria-hidden": "true" });
    for (const each of [group, dot]) each.style.setProperty("--colour", colourOf(box.index));
    const button = h(
      "button",
      {
        type: "button",
        class: "plain",
        onfocus: select(true),
        onblur: select(false),
        onpointerenter: select(true),
        onpointerleave: select(false),
      },
      dot,
      text,
    );
    return { group, item: h("li", {}, button), button };
  }

  function highlight(index, on) {
    if (!marks[index]) return;
    marks[index].group.classList.toggle("selected", on);
    marks[index].button.classList.toggle("selected", on);
    overlay.classList.toggle("selecting", on);
    // What is drawn last is on top.
    if (on && overlay.lastChild !== marks[index].group) overlay.append(marks[index].group);
  }

  return {
    element,
    list,
    draw,
    /** Shows a picture of this size, without boxes. */
    show(picture, width, height) {
      image.src = URL.createObjectURL(picture);
      image.alt = t("picker.picked");
      image.onload = () => URL.revokeObjectURL(image.src);
      overlay.setAttribute("viewBox", `0 0 ${width} ${height}`);
      put(overlay);
      put(list);
    },
  };
}
