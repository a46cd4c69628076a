// The versions of a model, and the card of one of them with its contents, tables and pictures.

import { ROOT, blob, call } from "../api.js";
import { freshId, h, note, put } from "../dom.js";
import { hasText, language, number, t } from "../i18n.js";
import { detailOf, reportPath, versionOf } from "../models.js";
import { nameOf } from "../names.js";
import { knows } from "../widgets/knows.js";
import { createStatus } from "../widgets/status.js";
import { driftSection } from "./drift.js";
import { taskOf, tryLink } from "./models.js";
import { versionsSection } from "./versions.js";

// A picture is a chart if most of it is as bright as paper; those of the committed cards have over 70 %, photographs
// under 30 %.
const BRIGHT = 210;
const PROBE = 64; // pixels to a side
const NUMERIC = /^(–?|[-−+]?[\d.,]+ ?[%×]?( to [\d.,]+ ?%?)?)$/;
const OF_LABELS = new Set(["class", "topic"]); // headings of columns
const LARGE = /^\d{4,}$/;

export function render(root, { models, card, signal }) {
  const status = createStatus();
  const article = h("article", { class: "report", lang: "en" });
  const contents = h("div", { class: "contents" });
  const listed = models.find(({ name }) => name === card.name);
  const model = listed && versionOf(listed, card.version);
  put(
    root,
    h("p", {}, h("a", { href: new URL("#/models", ROOT) }, t("card.back"))),
    heading(card, model),
    versionsSection(card.name, signal),
    model?.drift && driftSection(model, signal),
    status.element,
    h("div", { class: "report-columns" }, contents, article),
  );
  begin();

  async function begin() {
    status.busy();
    try {
      const { response } = await call(reportPath(card), { signal });
      const page = new DOMParser().parseFromString(await response.text(), "text/html");
      page.querySelectorAll("img").forEach((image) => {
        const file = image.getAttribute("src");
        image.removeAttribute("src");
        show(image, file);
      });
      page.querySelectorAll("a[href]").forEach((link) => {
        const target = link.getAttribute("href");
        if (!/^(https?:|#)/.test(target)) link.href = new URL(reportPath(card, target), ROOT);
        link.rel = "noreferrer";
      });
      page.querySelector("h1")?.remove(); // the name, which the page says
      put(article, ...page.body.childNodes);
      article.querySelectorAll("table").forEach((table, index) => prepare(table, index, model?.data));
      article.querySelectorAll("h2").forEach(translate);
      put(contents, contentsOf(article));
      document.title = `${card.name} ${card.version} · Quartet`;
      status.clear();
    } catch (error) {
      if (error.name !== "AbortError" && !signal.aborted) status.show(error, begin);
    }
  }

  // By a request of its own, which carries the key where there is one.
  async function show(image, file) {
    try {
      image.src = URL.createObjectURL(await blob(reportPath(card, file), { signal }));
      image.addEventListener(
        "load",
        () => {
          if (isChart(image)) image.classList.add("chart-image");
          URL.revokeObjectURL(image.src);
        },
        { once: true },
      );
    } catch {
      image.replaceWith(h("em", {}, image.alt || file));
    }
  }
}

function heading(card, model) {
  const known = h("div");
  if (model) {
    detailOf(model).then(
      ({ manifest }) => put(known, knows(manifest) ?? ""),
      () => {},
    );
  }
  const facts = model ? [taskOf(model), model.data].filter(Boolean) : [];
  return h(
    "div",
    { class: "headline" },
    h(
      "div",
      {},
      h("h1", {}, card.name),
      h("p", { class: "quiet" }, [t("models.version", card), ...facts].join(" · ")),
      known,
      model && model.variant !== "reference" && note(t("models.variant", model)),
      language !== "en" && note(t("card.english")),
    ),
    h("div", { class: "row" }, model && tryLink(model)),
  );
}

/** Links to the sections of a card. They scroll; the address names the page's panels. */
function contentsOf(article) {
  const links = [...article.querySelectorAll("h2")].map((section) => {
    section.id = freshId("section");
    section.tabIndex = -1;
    const go = (event) => {
      event.preventDefault();
      section.scrollIntoView();
      section.focus({ preventScroll: true });
    };
    return h(
      "li",
      {},
      h("a", { href: `#${section.id}`, onclick: go, lang: section.lang || "en" }, section.textContent),
    );
  });
  if (links.length < 2) return [];
  const open = matchMedia("(min-width: 64rem)").matches;
  return h(
    "nav",
    { "aria-label": t("card.contents") },
    h("details", { open }, h("summary", {}, t("card.contents")), h("ul", {}, links)),
  );
}

/** Puts a table into a place that scrolls, with its numbers at the right and readable names of labels. */
function prepare(table, index, data) {
  const rows = [...table.tBodies].flatMap((body) => [...body.rows]);
  [...(table.tHead?.rows[0]?.cells ?? [])].forEach((head, column) => {
    const cells = rows.map((row) => row.cells[column]).filter(Boolean);
    if (cells.length && cells.every(({ textContent }) => NUMERIC.test(textContent.trim())))
      for (const each of [head, ...cells]) each.classList.add("num");
    if (OF_LABELS.has(head.textContent)) for (const cell of cells) cell.textContent = fullName(cell.textContent, data);
    for (const cell of cells) if (LARGE.test(cell.textContent)) cell.textContent = number(Number(cell.textContent));
    translate(head);
  });
  const scroll = h("div", {
    class: "scroll",
    tabindex: "0",
    role: "region",
    "aria-label": t("card.table", { number: index + 1 }),
  });
  table.replaceWith(scroll);
  scroll.append(table);
}

/** A label with its readable name, where there is one. */
function fullName(label, data) {
  const name = nameOf(label, data);
  return name.includes(label) ? name : `${name} (${label})`;
}

/** A heading of a section or of a column in the page's language, where the page has it. */
function translate(element) {
  const slug = element.textContent
    .replace(/\(.*\)/, "")
    .toLowerCase()
    .match(/[a-z0-9]*[a-z][a-z0-9]*/g)
    ?.join("-");
  const key = element.tagName === "H2" ? `card-heading.${slug}` : `card-column.${slug}`;
  if (!hasText(key)) return;
  element.textContent = t(key, { value: /[\d.]+/.exec(element.textContent)?.[0] });
  element.lang = language;
}

function isChart(image) {
  const context = new OffscreenCanvas(PROBE, PROBE).getContext("2d");
  context.drawImage(image, 0, 0, PROBE, PROBE);
  const { data } = context.getImageData(0, 0, PROBE, PROBE);
  let bright = 0;
  for (let at = 0; at < data.length; at += 4) bright += Math.min(data[at], data[at + 1], data[at + 2]) >= BRIGHT;
  return bright > PROBE ** 2 / 2;
}
