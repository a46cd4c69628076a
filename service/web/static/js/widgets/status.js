// Loading, overloaded, offline, wrong: said in a sentence where it happened, with a way on.

import { Problem, ROOT, setKey } from "../api.js";
import { freshId, h, put } from "../dom.js";
import { language, t } from "../i18n.js";

export function createStatus() {
  const element = h("div", { class: "status", role: "status", "aria-live": "polite" });
  let timer = 0;
  return {
    element,
    busy() {
      clearTimeout(timer);
      // Most answers come sooner than anybody could read that they are awaited.
      timer = setTimeout(() => put(element, h("span", { class: "spin" }), t("status.loading")), 150);
    },
    clear() {
      clearTimeout(timer);
      put(element);
    },
    say(text) {
      clearTimeout(timer);
      put(element, text);
    },
    show(error, again) {
      clearTimeout(timer);
      if (!(error instanceof Problem)) console.error(error);
      put(element, describe(error, again));
    },
  };
}

function describe(error, again) {
  const sentence = error instanceof Problem ? error.sentence : t("problem.page");
  const box = h("div", { class: "problem stack" }, h("p", {}, sentence));
  if (error.detail && error.detail !== sentence && (language !== "en" || error.keyed)) {
    box.append(h("p", { class: "small", lang: "en" }, error.detail));
  }
  if (error.kind === "problem" && error.slug) {
    box.append(h("a", { href: new URL(`problems/${error.slug}`, ROOT), class: "small" }, t("problem.more")));
  }
  if (error.kind === "key" || error.kind === "forbidden") box.append(keyForm(again));
  else if (again && (error.kind === "offline" || error.kind === "overloaded")) {
    box.append(h("button", { type: "button", onclick: again }, t("status.again")));
  }
  return box;
}

function keyForm(again) {
  const id = freshId("key");
  const input = h("input", { id, type: "password", autocomplete: "off", required: true });
  const submit = (event) => {
    event.preventDefault();
    setKey(input.value.trim());
    again?.();
  };
  return h(
    "form",
    { class: "row", onsubmit: submit },
    h("label", { for: id }, t("key.label")),
    input,
    h("button", { class: "primary" }, t("key.use")),
  );
}
