// What surrounds the panels: the header with the ways between them, the footer.

import { ROOT, key, keys, setKey } from "./api.js";
import { h, put } from "./dom.js";
import { LANGUAGES, language, t } from "./i18n.js";
import { icon } from "./icons.js";
import { isDark, toggleTheme } from "./theme.js";

const LOGO = new URL("../icon.svg", import.meta.url);
const keyPlace = h("span"); // the button that forgets the key, while there is one
keys.addEventListener("change", showKey);

export function showHeader({ panels, current, onlanguage }) {
  showKey();
  document.title = current ? `${t(`nav.${current}`)} · Quartet` : "Quartet";
  const links = panels.map(({ id }) =>
    h(
      "li",
      {},
      h(
        "a",
        { href: new URL(`#/${id}`, ROOT), "aria-current": id === current ? "page" : null },
        icon(id),
        t(`nav.${id}`),
      ),
    ),
  );
  put(
    document.getElementById("header"),
    h("a", { class: "skip", href: "#main", onclick: toMain }, t("nav.skip")),
    h(
      "div",
      { class: "bar" },
      h("a", { class: "brand", href: ROOT }, h("img", { src: LOGO, alt: "" }), "Quartet"),
      h("nav", { "aria-label": t("nav.label") }, h("ul", { class: "tabs" }, links)),
      h("div", { class: "tools" }, learnLink(current), keyPlace, languageButton(onlanguage), themeButton()),
    ),
  );
}

function learnLink(current) {
  const here = current === "learn" ? "page" : null;
  return h("a", { class: "button plain", href: new URL("learn", ROOT), "aria-current": here }, icon("learn"), t("nav.learn"));
}

function toMain(event) {
  event.preventDefault();
  document.getElementById("main").focus();
}

function showKey() {
  const forget = () => {
    setKey(null);
    location.reload(); // nothing of what the key has shown stays
  };
  put(
    keyPlace,
    key() &&
      h(
        "button",
        { type: "button", class: "plain", "aria-label": t("key.forget"), title: t("key.forget"), onclick: forget },
        t("key.name"),
        h("span", { "aria-hidden": "true" }, "×"),
      ),
  );
}

function languageButton(onlanguage) {
  const other = Object.keys(LANGUAGES).find((each) => each !== language);
  return h(
    "button",
    { type: "button", class: "plain", lang: other, id: "language", onclick: () => switchTo(other) },
    LANGUAGES[other],
  );

  function switchTo(chosen) {
    onlanguage(chosen);
    document.getElementById("language").focus();
  }
}

function themeButton() {
  const sign = () => (isDark() ? "☀" : "☾");
  const button = h(
    "button",
    { type: "button", class: "plain", "aria-label": t("nav.theme"), title: t("nav.theme") },
    sign(),
  );
  button.addEventListener("click", () => {
    toggleTheme();
    button.textContent = sign();
  });
  return button;
}

export function showFooter() {
  put(
    document.getElementById("footer"),
    h(
      "div",
      { class: "bar" },
      h("a", { href: new URL("docs", ROOT) }, t("footer.docs")),
      h("a", { href: new URL("openapi.json", ROOT) }, "OpenAPI"),
      h("span", {}, t("footer.local")),
    ),
  );
}
