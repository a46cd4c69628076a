// Pictures: dropped, pasted, chosen or photographed.

import { freshId, h, put } from "../dom.js";
import { t } from "../i18n.js";
import { photograph } from "./camera.js";

/**
 * @param onpick is given the files, of which there is more than one only with `multiple`.
 * @param signal ends the listening for what is pasted.
 */
export function picturePicker(onpick, signal, { compact = false, multiple = false } = {}) {
  const id = freshId("file");
  const view = h("span", { class: "quiet" }, t(multiple ? "picker.several" : "picker.drop"));
  const input = h("input", { id, type: "file", accept: "image/*", multiple, "aria-label": t("picker.choose") });
  const drop = h("div", { class: compact ? "drop compact" : "drop" }, view, input);
  input.addEventListener("change", () => take(input.files));
  drop.addEventListener("dragover", (event) => {
    event.preventDefault();
    drop.classList.add("over");
  });
  drop.addEventListener("dragleave", () => drop.classList.remove("over"));
  drop.addEventListener("drop", (event) => {
    event.preventDefault();
    drop.classList.remove("over");
    take(event.dataTransfer.files);
  });
  document.addEventListener("paste", (event) => take(event.clipboardData?.files), { signal });
  const camera = h(
    "button",
    { type: "button", onclick: () => photograph().then((file) => file && onpick([file])) },
    t("picker.camera"),
  );

  function take(files) {
    const all = [...(files ?? [])];
    const images = all.filter((each) => each.type.startsWith("image/"));
    const wanted = images.length ? images : all;
    if (wanted.length) onpick(multiple ? wanted : wanted.slice(0, 1));
    input.value = ""; // so that the same file can be chosen again
  }

  return {
    element: h(
      "div",
      { class: "stack" },
      drop,
      h("div", { class: "row" }, camera, h("span", { class: "quiet small" }, t("picker.paste"))),
    ),
    /** Says something in place of a picture. */
    say(text) {
      put(view, text);
    },
    /** Shows the picture that was picked. */
    show(file) {
      const image = h("img", { alt: t("picker.picked"), src: URL.createObjectURL(file) });
      image.addEventListener("load", () => {
        URL.revokeObjectURL(image.src);
        if (image.naturalWidth < 65) image.className = "pixelated";
      });
      image.addEventListener("error", () => put(view, file.name ?? ""));
      view.className = "";
      put(view, image);
    },
  };
}
