// The course: its contents, and a section with its panels, in the page's language.

import { ROOT, call } from "../api.js";
import { h, put } from "../dom.js";
import { language, t } from "../i18n.js";
import { createStatus } from "../widgets/status.js";
import { mountPanels } from "./panels.js";
import { isRead, markRead } from "./progress.js";
import "./texts.js";

const BASE = new URL("../../", import.meta.url); // of the page's files
const LEARN = new URL("learn", ROOT);
const INDEX = "index";

// Its address is relative to that of the page, which changes from section to section.
const sign = document.querySelector('link[rel="icon"]');
sign.setAttribute("href", sign.href);

/** The section that the address names. */
const current = () => decodeURIComponent(location.pathname.slice(LEARN.pathname.length).replaceAll("/", "")) || INDEX;

const addressOf = (name) => (name === INDEX ? LEARN : new URL(`learn/${name}`, ROOT));

const fetched = async (path, signal) => (await call(new URL(`learn/${path}`, BASE), { signal })).response;

/** @param moved whether somebody went here from another section, so that the focus follows. */
export function render(root, { models, trouble, memory, moved, move, signal }) {
  const status = createStatus();
  const name = current();
  begin();

  async function begin() {
    put(root, h("h1", { class: "visually-hidden" }, t("nav.learn")), status.element);
    status.busy();
    try {
      const contents = await (await fetched("contents.json", signal)).json();
      const text = await (await fetched(`${language}/${name}.html`, signal)).text();
      if (signal.aborted) return;
      status.clear();
      show({ ...contents[language], [INDEX]: t("learn.overview") }, text);
    } catch (error) {
      if (error.name !== "AbortError" && !signal.aborted) status.show(error, begin);
    }
  }

  function show(titles, text) {
    const { body } = new DOMParser().parseFromString(text, "text/html");
    const article = h("article", { class: "lesson", lang: language }, ...body.childNodes);
    prepare(article, trouble ? null : models);
    const turn = turning(titles, name);
    if (name === INDEX) put(root, article, turn);
    else put(root, h("div", { class: "lessons" }, contentsOf(titles, name, article), h("div", {}, article, turn)));
    document.title = `${name === INDEX ? t("nav.learn") : titles[name]} · Quartet`;
    follow(root, name, move, signal);
    place(article, memory, moved, signal);
    if (name === INDEX) tickRead(article);
    else whenSeen(turn, () => markRead(name), signal);
    memory.panels ??= {};
    mountPanels(article, { models, trouble, memory: (memory.panels[name] ??= {}), file: fileAt, signal });
  }
}

const fileAt = (path) => new URL(`learn/files/${path}`, BASE);

/** Aims pictures and links, which are written as seen from the root; `models` are those served, null if unknown. */
function prepare(article, models) {
  for (const image of article.querySelectorAll("img")) image.src = new URL(image.getAttribute("src"), BASE);
  for (const link of article.querySelectorAll("a[href]")) {
    const target = link.getAttribute("href");
    const [, card] = /^models\/([^/]+)\//.exec(target) ?? [];
    if (card && models && !models.some((model) => model.name === card)) link.replaceWith(...link.childNodes);
    else if (!/^(https?:|#)/.test(target)) link.href = new URL(target, ROOT);
  }
  article.querySelectorAll(".scroll").forEach((each, index) => {
    each.setAttribute("aria-label", t("learn.table", { number: index + 1 }));
  });
  article.querySelectorAll("pre").forEach((each) => {
    each.setAttribute("role", "group");
    each.setAttribute("aria-label", t("learn.code"));
  });
  for (const heading of article.querySelectorAll(":scope > :is(h1, h2, h3)")) heading.tabIndex = -1;
}

/** Links to all sections, and to the parts of the one that is shown. */
function contentsOf(titles, name, article) {
  const parts = [...article.querySelectorAll(":scope > h2")].map((each) =>
    h("li", {}, h("a", { href: `#${each.id}` }, each.textContent)),
  );
  const item = (each) =>
    h(
      "li",
      {},
      h("a", { href: addressOf(each), "aria-current": each === name ? "page" : null }, titles[each], tick(each)),
      each === name && parts.length > 0 && h("ul", {}, parts),
    );
  const open = matchMedia("(min-width: 64rem)").matches;
  const all = Object.keys(titles);
  return h(
    "nav",
    { class: "contents", "aria-label": t("learn.contents") },
    h("details", { open }, h("summary", {}, t("learn.contents")), h("ul", {}, all.map(item))),
  );
}

const tick = (name) => isRead(name) && h("span", { class: "read" }, h("span", { class: "visually-hidden" }, t("learn.read")));

/** Marks the links of the contents whose sections have been read. */
function tickRead(article) {
  for (const link of article.querySelectorAll(":is(li, td) > a[href]")) {
    const name = link.pathname.split("/").at(-1);
    if (link.pathname === addressOf(name).pathname) link.append(tick(name) || "");
  }
}

/** Links to the sections before and after. */
function turning(titles, name) {
  const all = Object.keys(titles);
  const at = all.indexOf(name);
  const to = (other, rel, word) =>
    other && h("a", { rel, href: addressOf(other) }, h("span", { class: "quiet small" }, word), titles[other]);
  return h(
    "nav",
    { class: "turn", "aria-label": t("learn.turn") },
    to(all[at - 1], "prev", t("learn.previous")),
    to(all[at + 1], "next", t(name === INDEX ? "learn.begin" : "learn.next")),
  );
}

/** Goes to other sections without loading the page anew, by links and by the browser's own ways back and forth. */
function follow(root, name, move, signal) {
  root.addEventListener(
    "click",
    (event) => {
      const link = event.target.closest("a[href]");
      const inside = link && (link.pathname === LEARN.pathname || link.pathname.startsWith(`${LEARN.pathname}/`));
      if (!inside || event.defaultPrevented || event.button || event.metaKey || event.ctrlKey || event.shiftKey) return;
      if (link.origin !== location.origin || link.pathname === location.pathname) return;
      event.preventDefault();
      history.replaceState({ top: scrollY }, "");
      history.pushState(null, "", link.href);
      move();
    },
    { signal },
  );
  addEventListener("popstate", () => current() !== name && move(), { signal });
}

/** Scrolls to where the reader was, or wants to be. */
function place(article, memory, moved, signal) {
  const headings = [...article.querySelectorAll(":scope > :is(h1, h2, h3)")];
  const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (target) target.scrollIntoView();
  else if (moved) scrollTo(0, history.state?.top ?? 0);
  // In another language the same heading has the same place in the order.
  else if (memory.language && memory.language !== language && memory.heading > 0) headings[memory.heading].scrollIntoView();
  if (moved) (target || headings[0]).focus({ preventScroll: true });
  memory.language = language;
  memory.heading = 0;
  addEventListener(
    "scroll",
    () => (memory.heading = headings.findLastIndex((each) => each.getBoundingClientRect().top < 80)),
    { signal, passive: true },
  );
}

/** Runs something once, when an element comes into view. */
function whenSeen(element, run, signal) {
  const observer = new IntersectionObserver((entries) => {
    if (!entries.some((each) => each.isIntersecting)) return;
    observer.disconnect();
    run();
  });
  observer.observe(element);
  signal.addEventListener("abort", () => observer.disconnect());
}
