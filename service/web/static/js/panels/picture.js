// A picture to ask a model about: one's own, or a sample of the model.

import { call } from "../api.js";
import { h, put } from "../dom.js";
import { samplesOf } from "../models.js";
import { picturePicker } from "../widgets/picker.js";
import { sampleIn, sampleRow } from "../widgets/samples.js";

/**
 * @param onpick is given what was picked: `{file}` or `{sample}`.
 * @param compact whether the place for it is to be small.
 */
export function pictureInput(model, { settings, memory, signal, onpick, compact = false }) {
  const samples = h("div", { class: "stack" });
  const picker = picturePicker((file) => choose({ file }), signal, compact);

  function choose(picked) {
    memory.file = picked.file;
    settings.set({ sample: picked.sample?.index });
    onpick(picked);
  }

  return {
    picker: picker.element,
    samples,
    /** Shows the picture that was picked. */
    show: picker.show,
    /** Offers the model's samples, and picks what was shown before, else the sample that the address names. */
    async offer() {
      const found = await samplesOf(model);
      if (signal.aborted) return;
      put(
        samples,
        sampleRow(found, (sample) => choose({ sample })),
      );
      if (memory.file) choose({ file: memory.file });
      else if (found.items.length) choose({ sample: sampleIn(found, settings) });
    },
  };
}

/** What was picked, as bytes. */
export const pictureOf = ({ file, sample }) => file ?? sample.blob();

/** Asks about a picture: the answer, the document in it, and what describes the picture in the snippets. */
export async function askAbout(picture, { sample }, path, query, signal) {
  const media = picture.type || "application/octet-stream";
  const headers = { "Content-Type": media };
  const answered = await call(path, { method: "POST", query, body: picture, headers, signal });
  const document = await answered.response.json();
  const file = sample ? `sample.${media.split("/")[1]}` : picture.name || "picture";
  return { answered, document, sent: { media, file, source: sample?.path } };
}
