// A row of real inputs to try, each with its true label where that is known.

import { h, note, put } from "../dom.js";
import { t } from "../i18n.js";
import { licenceOf } from "../licences.js";
import { nameOf } from "../names.js";

const MOST = 10;

/**
 * @param samples as `samplesOf` gives them.
 * @param onpick is given the sample and, of a picture, its blob.
 */
export function sampleRow(samples, onpick) {
  const row = h("ul", { class: "samples", "aria-label": t("samples.title") });
  for (const sample of samples.items.slice(0, MOST)) row.append(h("li", {}, button(sample, samples.data, onpick)));
  // A model that was adopted has no data set.
  const source =
    samples.data !== null &&
    note(t("samples.from", { data: samples.data }), " ", licenceOf(samples.data));
  return samples.items.length ? h("div", { class: "stack" }, row, source) : h("p", { class: "quiet" }, t("samples.none"));
}

/** The sample that the address names, else the first. */
export const sampleIn = ({ items }, settings) => items[settings.number("sample", 0)] ?? items[0];

function button(sample, data, onpick) {
  const label = sample.label === null ? "" : nameOf(sample.label, data);
  const number = t("samples.one", { number: sample.index + 1 });
  const name = label ? `${number}: ${label}` : number;
  const element = h("button", { type: "button", "aria-label": name, onclick: () => onpick(sample) });
  const loaded = sample.blob().then((content) => fill(element, sample, content, name, label));
  loaded.catch(() => put(element, name));
  return element;
}

async function fill(element, sample, content, name, label) {
  if (sample.mediaType.startsWith("image/")) {
    const image = h("img", { alt: "", src: URL.createObjectURL(content) });
    image.addEventListener("load", () => {
      URL.revokeObjectURL(image.src);
      if (image.naturalWidth < 65) image.className = "pixelated";
    });
    put(element, image, label && h("span", {}, label));
  } else {
    element.classList.add("text");
    const text = sample.mediaType === "text/plain" ? await content.text() : name;
    element.setAttribute("aria-label", text === name ? name : `${name}: ${text.slice(0, 60)}`);
    put(element, h("span", {}, text === name || !label ? text.slice(0, 60) : `${label}: ${text.slice(0, 60)}`));
  }
}
