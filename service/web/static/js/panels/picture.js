// A picture to ask a model about: one's own, or a sample of the model.

import { call } from "../api.js";
import { h, put } from "../dom.js";
import { samplesOf } from "../models.js";
import { picturePicker } from "../widgets/picker.js";
import { sampleIn, sampleRow } from "../widgets/samples.js";

/**
 * @param onpick is given what was picked: `{file}` or `{sample}`.
 * @param onfiles is given the files where there are several; without it one can be picked.
 * @param compact whether the place for it is to be small.
 */
export function pictureInput(model, { settings, memory, signal, onpick, onfiles = null, compact = false }) {
  const samples = h("div", { class: "stack" });
  const picker = picturePicker(take, signal, { compact, multiple: onfiles !== null });

  function take(files) {
    if (files.length > 1) onfiles(files);
    else choose({ file: files[0] });
  }

  function choose(picked) {
    memory.file = picked.file;
    settings.set({ sample: picked.sample?.index });
    for (const [index, button] of [...samples.querySelectorAll("button")].entries())
      button.setAttribute("aria-pressed", String(index === picked.sample?.index));
    onpick(picked);
  }

  return {
    picker: picker.element,
    samples,
    /** Shows the picture that was picked. */
    show: picker.show,
    say: picker.say,
    choose,
    /** Offers the model's samples, and, unless `pick` is false, picks what was shown before, else a sample. */
    async offer({ pick = true } = {}) {
      const found = await samplesOf(model);
      if (signal.aborted) return;
      put(
        samples,
        sampleRow(found, (sample) => choose({ sample })),
      );
      if (!pick) return;
      if (memory.file) choose({ file: memory.file });
      else if (found.items.length) choose({ sample: sampleIn(found, settings) });
    },
  };
}

/** What was picked, as bytes. */
export const pictureOf = ({ file, sample }) => file ?? sample.blob();

/** Asks about a picture: the answer, the document in it, and what describes the request in the snippets. */
export async function askAbout(picture, { sample }, path, query, signal) {
  const media = picture.type || "application/octet-stream";
  const headers = { "Content-Type": media };
  const answered = await call(path, { method: "POST", query, body: picture, headers, signal });
  const document = await answered.response.json();
  const file = sample ? `sample.${media.split("/")[1]}` : picture.name || "picture";
  return { answered, document, described: { ...answered.sent, file, source: sample?.path } };
}
