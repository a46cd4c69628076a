// A row of real inputs to try.

import { h, put } from "../dom.js";
import { t } from "../i18n.js";
import { licenceOf } from "../licences.js";

const MOST = 10;

/**
 * @param samples as `samplesOf` gives them.
 * @param onpick is given the sample and, of a picture, its blob.
 */
export function sampleRow(samples, onpick) {
  const row = h("ul", { class: "samples", "aria-label": t("samples.title") });
  for (const sample of samples.items.slice(0, MOST)) row.append(h("li", {}, button(sample, onpick)));
  const note = h(
    "p",
    { class: "quiet small" },
    t("samples.from", { data: samples.data }),
    " ",
    licenceOf(samples.data),
  );
  return samples.items.length ? h("div", { class: "stack" }, row, note) : h("p", { class: "quiet" }, t("samples.none"));
}

/** The sample that the address names, else the first. */
export const sampleIn = ({ items }, settings) => items[settings.number("sample", 0)] ?? items[0];

function button(sample, onpick) {
  const name = t("samples.one", { number: sample.index + 1 });
  const element = h("button", { type: "button", "aria-label": name, onclick: () => onpick(sample) });
  const loaded = sample.blob().then((data) => fill(element, sample, data, name));
  loaded.catch(() => put(element, name));
  return element;
}

async function fill(element, sample, data, name) {
  if (sample.mediaType.startsWith("image/")) {
    const image = h("img", { alt: "", src: URL.createObjectURL(data) });
    image.addEventListener("load", () => {
      URL.revokeObjectURL(image.src);
      if (image.naturalWidth < 65) image.className = "pixelated";
    });
    put(element, image);
  } else {
    element.classList.add("text");
    const text = sample.mediaType === "text/plain" ? await data.text() : name;
    element.setAttribute("aria-label", text === name ? name : `${name}: ${text.slice(0, 60)}`);
    put(element, h("span", {}, text.slice(0, 60)));
  }
}
