// The versions of a model, and the card of one of them with its pictures.

import { ROOT, blob, call } from "../api.js";
import { h, put } from "../dom.js";
import { t } from "../i18n.js";
import { reportPath } from "../models.js";
import { createStatus } from "../widgets/status.js";
import { versionsSection } from "./versions.js";

export function render(root, { card, signal }) {
  const status = createStatus();
  const article = h("article", { class: "report", lang: "en" });
  put(
    root,
    h("p", {}, h("a", { href: new URL("#/models", ROOT) }, t("card.back"))),
    versionsSection(card.name, signal),
    status.element,
    article,
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
      put(article, ...page.body.childNodes);
      article.querySelectorAll("table").forEach((table, index) => {
        const scroll = h("div", {
          class: "scroll",
          tabindex: "0",
          role: "region",
          "aria-label": t("card.table", { number: index + 1 }),
        });
        table.replaceWith(scroll);
        scroll.append(table);
      });
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
      image.addEventListener("load", () => URL.revokeObjectURL(image.src), { once: true });
    } catch {
      image.replaceWith(h("em", {}, image.alt || file));
    }
  }
}
