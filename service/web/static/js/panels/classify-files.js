// Several pictures: a row each, as their answers come, and the table to download.

import { h, put } from "../dom.js";
import { number, t } from "../i18n.js";
import { manifestOf } from "../models.js";
import { nameOf } from "../names.js";
import { share } from "../widgets/bars.js";
import { downloads } from "../widgets/download.js";
import { isDoubtful, levelOf } from "../widgets/typicality.js";

const AT_ONCE = 4; // requests, as the client of the project has them
const COLUMNS = ["picture", "name", "label", "probability", "typicality"];
const TRIES = 5; // of a picture while the server has too much work

/**
 * @param files pictures.
 * @param ask answers for a file as `askAbout` does.
 * @param onpick is given the file whose whole answer is wanted.
 * @param ondescribed is given the description of each request.
 */
export function fileTable(files, { ask, onpick, ondescribed, signal }) {
  const rows = files.map((file) => ({ file, cells: h("tr"), record: { file: file.name } }));
  const progress = h("p", { class: "quiet", role: "status" });
  const save = downloads("answers", () => rows.map(({ record }) => record));
  const element = h(
    "div",
    { class: "stack" },
    h("div", { class: "row ends" }, progress, save),
    h(
      "div",
      { class: "table", tabindex: "0", role: "region", "aria-label": t("files.table") },
      h(
        "table",
        {},
        h(
          "thead",
          {},
          h("tr", {}, COLUMNS.map((each) => h("th", { scope: "col", class: each === "probability" ? "value" : null }, t(`files.${each}`)))),
        ),
        h("tbody", {}, rows.map(({ cells }) => cells)),
      ),
    ),
  );
  let done = 0;
  rows.forEach((row) => write(row, h("td", { colspan: 3, class: "quiet" }, "…")));
  count();
  const waiting = rows.values();
  for (let worker = 0; worker < AT_ONCE; worker++) work();
  return element;

  async function work() {
    for (const row of waiting) {
      await answer(row);
      if (signal.aborted) return;
      done += 1;
      count();
    }
  }

  async function answer(row) {
    try {
      const { document, described } = await patiently(() => ask(row.file));
      const manifest = await manifestOf(document);
      const [result] = document.results;
      const [{ label, probability }] = result.labels;
      const level = levelOf(result);
      row.record = { ...row.record, label, probability, typicality: result.typicality ?? null, model: document.model, version: document.version };
      write(
        row,
        h("td", { class: isDoubtful(result) ? "quiet" : null }, nameOf(label, manifest.data?.name)),
        h("td", { class: "value" }, share(probability)),
        h("td", {}, level && h("span", { class: `level ${level}` }, t(`level.${level}`))),
      );
      ondescribed(described);
    } catch (error) {
      if (signal.aborted) return;
      const sentence = error.sentence ?? t("problem.page");
      row.record = { ...row.record, error: error.detail || sentence };
      write(row, h("td", { colspan: 3, class: "bad" }, sentence));
    }
  }

  /** A server with too much work says when to come back. */
  async function patiently(call, tries = TRIES) {
    try {
      return await call();
    } catch (error) {
      if (error.kind !== "overloaded" || tries <= 1 || signal.aborted) throw error;
      await new Promise((resolve) => setTimeout(resolve, 1000 * (error.retryAfter ?? 1)));
      return patiently(call, tries - 1);
    }
  }

  function write({ file, cells }, ...answered) {
    const image = cells.querySelector("img") ?? thumbnail(file);
    const name = h("button", { type: "button", class: "link", onclick: () => onpick(file) }, file.name);
    put(cells, h("td", {}, image), h("td", {}, name), answered);
  }

  function count() {
    put(progress, t("files.progress", { done: number(done), count: number(files.length) }));
    save.hidden = done < files.length;
  }
}

function thumbnail(file) {
  const image = h("img", { alt: "", loading: "lazy", src: URL.createObjectURL(file) });
  const release = () => URL.revokeObjectURL(image.src);
  image.addEventListener("load", release);
  image.addEventListener("error", () => {
    release();
    image.replaceWith("–");
  });
  return image;
}
