// Boxes over a picture, each with its label, and a list of them for the keyboard.

import { h, put } from "../dom.js";
import { number, t } from "../i18n.js";
import { colourOf } from "./palette.js";

const ABOVE = 0.05; // of the picture's height; a label that has less room above its box is inside it
const RIGHT = 0.8; // of its width; the label of a box that begins beyond ends where the box ends

export function boxView() {
  const image = h("img", { alt: "" });
  const overlay = h("div", { class: "overlay", "aria-hidden": "true" });
  const element = h("div", { class: "boxes" }, image, overlay);
  const list = h("ol", { class: "found" });
  let size = { width: 1, height: 1 };
  let marks = [];

  function draw(boxes) {
    marks = boxes.map(mark);
    put(
      overlay,
      marks.map(({ frame }) => frame),
    );
    put(
      list,
      marks.map(({ button }) => h("li", {}, button)),
    );
  }

  function mark({ label, score, index: kind, x_min: left, y_min: top, x_max: right, y_max: bottom }, index) {
    const select = (on) => () => highlight(index, on);
    const { width, height } = size;
    const text = `${label} ${number(score, 2)}`;
    const frame = h(
      "div",
      { class: "box", onpointerenter: select(true), onpointerleave: select(false) },
      h("span", {}, text),
    );
    frame.classList.toggle("below", top < ABOVE * height);
    frame.classList.toggle("right", left > RIGHT * width);
    Object.assign(frame.style, {
      left: `${(100 * left) / width}%`,
      top: `${(100 * top) / height}%`,
      width: `${(100 * (right - left)) / width}%`,
      height: `${(100 * (bottom - top)) / height}%`,
    });
    const dot = h("span", { class: "dot", "aria-hidden": "true" });
    for (const each of [frame, dot]) each.style.setProperty("--colour", colourOf(kind));
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
    return { frame, button };
  }

  function highlight(index, on) {
    if (!marks[index]) return;
    marks[index].frame.classList.toggle("selected", on);
    marks[index].button.classList.toggle("selected", on);
    overlay.classList.toggle("selecting", on);
  }

  return {
    element,
    list,
    draw,
    /** Shows a picture of this size, without boxes. */
    show(picture, width, height) {
      size = { width, height };
      image.src = URL.createObjectURL(picture);
      image.alt = t("picker.picked");
      image.onload = () => URL.revokeObjectURL(image.src);
      put(overlay);
      put(list);
    },
  };
}
