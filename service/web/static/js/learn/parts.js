// What several panels of the course share: buttons, a line that is read out, something that plays, the theme's colours.

import { freshId, h } from "../dom.js";
import { number, t } from "../i18n.js";

// These have the same name in all languages.
const NAMES = { and: "AND", or: "OR", relu: "ReLU", tanh: "tanh", xor: "XOR" };

export const activationName = (name) => NAMES[name] ?? t(`activation.${name}`);
export const dataName = (name) => NAMES[name] ?? t(`xor.data.${name}`);

/** A list to choose from, for `choice`. */
export const options = (values, nameOf) => values.map((each) => [each, nameOf(each)]);

export const button = (text, onclick, more = {}) => h("button", { type: "button", onclick, ...more }, text);

/** A number as formulas have it, with a minus sign rather than a hyphen. */
export const figure = (value, digits) => number(value, digits).replace("-", "−");

/** A checkbox with its name beside it. */
export function check(name, checked, onchange) {
  const id = freshId("check");
  const input = h("input", { id, type: "checkbox", ".checked": checked, onchange: () => onchange(input.checked) });
  return h("div", { class: "row" }, input, h("label", { for: id }, name));
}

/** A line that screen readers say when it changes. */
export function live() {
  const element = h("p", { class: "live number", role: "status" });
  return { element, say: (text) => element.textContent !== text && (element.textContent = text) };
}

/** A plain table: `head` has texts, `rows` have cells, whose first names its row. */
export function table(caption, head, rows) {
  return h(
    "table",
    { class: "number" },
    h("caption", { class: "visually-hidden" }, caption),
    h("thead", {}, h("tr", {}, head.map((each) => (each ? h("th", { scope: "col" }, each) : h("td"))))),
    h("tbody", {}, rows.map(([first, ...rest]) => h("tr", {}, h("th", { scope: "row" }, first), rest.map(cell)))),
  );
}

const cell = (each) => (each instanceof Element && each.tagName === "TD" ? each : h("td", {}, each));

/**
 * A button that plays and pauses. What it plays rests while it is not in view, and ends when the panel is left.
 *
 * @param tick is called before each frame, or twice a second where less motion is wanted, with the number of frames
 *   that it stands for; it returns whether to go on.
 * @param pace seconds from one tick to the next; 0 for every frame.
 * @param onpause is called when it has stopped.
 */
export function player({ tick, pace = 0, onpause, within, signal }) {
  const toggle = button(t("play.start"), () => set(!playing), { class: "primary" });
  const still = matchMedia("(prefers-reduced-motion: reduce)");
  let playing = false;
  let seen = true;
  let last = 0;
  const watch = new IntersectionObserver((entries) => {
    const was = seen;
    seen = entries.at(-1).isIntersecting;
    if (seen && !was && playing) requestAnimationFrame(frame);
  });
  watch.observe(within);
  signal.addEventListener("abort", () => {
    playing = false;
    watch.disconnect();
  });

  function frame(now) {
    if (!playing || !seen) return;
    const wait = still.matches ? Math.max(pace, 0.5) : pace;
    if (now - last >= 1000 * wait) {
      last = now;
      if (!tick(still.matches ? 30 : 1)) {
        set(false);
        return;
      }
    }
    requestAnimationFrame(frame);
  }

  function set(on) {
    if (on === playing) return;
    playing = on;
    toggle.textContent = t(on ? "play.pause" : "play.start");
    if (on) requestAnimationFrame(frame);
    else onpause?.();
  }

  return { toggle, pause: () => set(false) };
}

/** Calls `draw` when the colours of the page change. */
export function onTheme(draw, signal) {
  const watch = new MutationObserver(draw);
  watch.observe(document.documentElement, { attributes: true, attributeFilter: ["data-theme"] });
  signal.addEventListener("abort", () => watch.disconnect());
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw, { signal });
}

/** The red, green and blue of a colour of the page, such as `--accent`, where `element` is. */
export function colour(element, name) {
  element.style.color = `var(${name})`;
  const found = getComputedStyle(element).color.match(/[\d.]+/g).slice(0, 3).map(Number);
  element.style.color = "";
  return found;
}
