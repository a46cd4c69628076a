// A sheet of paper to draw on, with a finger, a mouse or the arrow keys.

import { freshId, h } from "../dom.js";
import { t } from "../i18n.js";

const SIZE = 280;
const PEN = 22;
const KEY_STEP = 10;
// As the training images of handwriting are made: the ink in 20 of 28 pixels, its centre of mass in the middle.
const INK_SHARE = 20 / 28;

/** @param onchange is called after each stroke. */
export function sketch(onchange) {
  const hint = freshId("hint");
  const canvas = h("canvas", {
    width: SIZE,
    height: SIZE,
    class: "sketch",
    tabindex: "0",
    role: "application",
    "aria-label": t("sketch.label"),
    "aria-describedby": hint,
  });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  const pen = { x: SIZE / 2, y: SIZE / 2, down: false };
  let empty = true;
  let copied = false; // what is on the sheet is a picture that a first stroke replaces
  clear();

  canvas.addEventListener("pointerdown", (event) => {
    if (copied) clear();
    canvas.setPointerCapture(event.pointerId);
    moveTo(event);
    line(pen.x, pen.y);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!event.buttons) return;
    for (const each of event.getCoalescedEvents?.() ?? [event]) {
      const { x, y } = positionOf(each);
      line(x, y);
    }
  });
  canvas.addEventListener("pointerup", onchange);
  canvas.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (!step && event.key !== " ") return;
    event.preventDefault();
    if (event.key === " ") {
      if (copied) clear();
      pen.down = !pen.down;
      if (pen.down) line(pen.x, pen.y);
      else onchange();
      return;
    }
    const [x, y] = step.map((each, axis) => Math.min(SIZE, Math.max(0, (axis ? pen.y : pen.x) + each * KEY_STEP)));
    if (pen.down) line(x, y);
    Object.assign(pen, { x, y });
  });

  function positionOf(event) {
    const box = canvas.getBoundingClientRect();
    return { x: ((event.clientX - box.left) / box.width) * SIZE, y: ((event.clientY - box.top) / box.height) * SIZE };
  }

  function moveTo(event) {
    Object.assign(pen, positionOf(event));
  }

  function line(x, y) {
    context.beginPath();
    context.moveTo(pen.x, pen.y);
    context.lineTo(x, y);
    context.stroke();
    Object.assign(pen, { x, y });
    empty = false;
  }

  function clear() {
    context.fillStyle = "#fff";
    context.fillRect(0, 0, SIZE, SIZE);
    Object.assign(context, { strokeStyle: "#000", lineWidth: PEN, lineCap: "round", lineJoin: "round" });
    empty = true;
    copied = false;
    pen.down = false;
  }

  return {
    element: h("div", {}, canvas, h("p", { id: hint, class: "quiet small" }, t("sketch.hint"))),
    clear,
    get empty() {
      return empty;
    },
    /** Copies a picture onto the sheet, as dark ink on white paper. */
    async copy(picture, inverted) {
      const bitmap = await createImageBitmap(picture);
      clear();
      context.filter = inverted ? "invert(1)" : "none";
      context.drawImage(bitmap, 0, 0, SIZE, SIZE);
      context.filter = "none";
      empty = false;
      copied = true;
    },
    /** The ink, moved and scaled as the training images are, as a PNG file. */
    centred: () => centred(context),
  };
}

async function centred(context) {
  const ink = measure(context.getImageData(0, 0, SIZE, SIZE).data);
  const sheet = new OffscreenCanvas(SIZE, SIZE);
  const target = sheet.getContext("2d");
  target.fillStyle = "#fff";
  target.fillRect(0, 0, SIZE, SIZE);
  const scale = (INK_SHARE * SIZE) / Math.max(ink.width, ink.height);
  target.setTransform(scale, 0, 0, scale, SIZE / 2 - scale * ink.x, SIZE / 2 - scale * ink.y);
  target.drawImage(context.canvas, ink.left, ink.top, ink.width, ink.height, ink.left, ink.top, ink.width, ink.height);
  return sheet.convertToBlob({ type: "image/png" });
}

/** Where the ink is, and its centre of mass. */
function measure(pixels) {
  let [left, top, right, bottom, mass, x, y] = [SIZE, SIZE, 0, 0, 0, 0, 0];
  for (let row = 0; row < SIZE; row++) {
    for (let column = 0; column < SIZE; column++) {
      const dark = 255 - pixels[4 * (row * SIZE + column)];
      if (dark < 32) continue;
      left = Math.min(left, column);
      right = Math.max(right, column);
      top = Math.min(top, row);
      bottom = Math.max(bottom, row);
      mass += dark;
      x += dark * column;
      y += dark * row;
    }
  }
  return { left, top, width: right - left + 1, height: bottom - top + 1, x: x / mass, y: y / mass };
}
