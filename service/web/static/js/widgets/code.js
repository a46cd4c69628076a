// The request as code to copy, and where it is documented.

import { ROOT } from "../api.js";
import { freshId, h, put } from "../dom.js";
import { t } from "../i18n.js";
import { LANGUAGES, snippet } from "../snippets.js";

/** The place of an operation in the API's documentation. */
function docsLink(operation) {
  const id = operation.replaceAll("-", "_");
  return h("a", { href: new URL(`docs#/inference/${id}`, ROOT) }, t("code.docs", { route: `POST /v1/${operation}` }));
}

/** What shows the latest request of a panel; `show` is given a description of it (`snippets.js`), and maybe a note. */
export function codeView() {
  const panelId = freshId("code");
  const text = h("code");
  const block = h("pre", { id: panelId, tabindex: "0", role: "tabpanel" }, text);
  const copied = h("span", { role: "status", class: "quiet small" });
  let described = null;
  let language = LANGUAGES[0];
  const tabs = LANGUAGES.map((each) =>
    h(
      "button",
      { type: "button", role: "tab", "aria-controls": panelId, id: freshId("tab"), onclick: () => choose(each) },
      each,
    ),
  );
  const list = h("div", { role: "tablist", "aria-label": t("code.languages"), class: "row", onkeydown: move }, tabs);
  const copy = h("button", { type: "button", onclick: toClipboard }, t("code.copy"));
  const docs = h("p", { class: "small" });
  const note = h("p", { class: "quiet small" });
  const element = h(
    "details",
    { class: "card code", hidden: true },
    h("summary", {}, t("code.title")),
    h("div", { class: "row ends" }, list, h("div", { class: "row" }, copied, copy)),
    block,
    h("div", { class: "stack" }, note, docs),
  );

  function choose(chosen) {
    language = chosen;
    write();
  }

  function move(event) {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    const next = (LANGUAGES.indexOf(language) + step + LANGUAGES.length) % LANGUAGES.length;
    choose(LANGUAGES[next]);
    tabs[next].focus();
  }

  function write() {
    tabs.forEach((tab, index) => {
      const selected = LANGUAGES[index] === language;
      tab.setAttribute("aria-selected", String(selected));
      tab.tabIndex = selected ? 0 : -1;
      if (selected) block.setAttribute("aria-labelledby", tab.id);
    });
    text.textContent = described ? snippet(language, described) : "";
  }

  async function toClipboard() {
    try {
      await navigator.clipboard.writeText(text.textContent);
      put(copied, t("code.copied"));
    } catch {
      getSelection().selectAllChildren(text);
      put(copied, t("code.selected"));
    }
  }

  return {
    element,
    show(request, remark = "") {
      described = request;
      put(note, remark);
      element.hidden = false;
      put(copied);
      put(docs, docsLink(request.path.replace(/^v1\//, "")));
      if (element.open) write();
      else element.addEventListener("toggle", write, { once: true });
    },
  };
}
