// A canary: its steps, and the figures of both versions side by side.

import { h, note, put, whenChanged } from "../dom.js";
import { brief, moment, number, percent, roughly, t } from "../i18n.js";
import { meter } from "../widgets/meter.js";

const SHOWN = 12; // labels
const KINDS = { default: "first", canary: "second" };

export function canaryPart() {
  const title = h("h2");
  const steps = h("div", { class: "stack" });
  const figures = h("div", { class: "stack" });
  const element = h(
    "section",
    { class: "card stack", "aria-label": t("canary.title"), hidden: true },
    title,
    steps,
    figures,
  );
  const drawSteps = whenChanged((canary) => {
    element.hidden = !canary;
    if (!canary) return;
    put(title, t("canary.of", { version: canary.version }));
    put(steps, stepsOf(canary));
  });
  const draw = whenChanged((found) => put(figures, waiting(found.waits_for), compared(found.versions)));
  return { element, show: ({ canary }) => drawSteps(canary), figures: draw };
}

/** Why it is not the default yet, after its last step. */
const waiting = (what) => what && h("p", {}, t("canary.waits"), " ", h("span", { lang: "en" }, what));

function stepsOf({ share, step, steps, started, next_step: next }) {
  const told = [
    t("canary.share", { share: roughly(share) }),
    started !== null && t("canary.started", { time: moment(started) }),
    next !== null && t("canary.next", { time: moment(next) }),
  ];
  return [
    steps.length > 1 &&
      h(
        "ol",
        { class: "steps", "aria-label": t("canary.steps") },
        steps.map((each, index) =>
          h(
            "li",
            { "aria-current": index === step ? "step" : null, class: index < step ? "done" : null },
            each.minutes
              ? t("canary.step", { share: roughly(each.share), minutes: brief(each.minutes) })
              : roughly(each.share),
          ),
        ),
      ),
    h("p", {}, told.filter(Boolean).join(" ")),
  ];
}

/** @param versions of CanaryState, the default one first. */
function compared(versions) {
  const sides = [...versions].sort((one, other) => (one.role === "default" ? -1 : other.role === "default" ? 1 : 0));
  const milliseconds = (value) => (value === null || value === undefined ? "–" : `${number(value, 1)} ms`);
  const facts = [
    ["requests", ({ requests }) => number(requests)],
    ["errors", ({ errors, error_share: share }) => `${number(errors)} (${percent(share ?? 0, 2)})`],
    ["p50", ({ latency_ms: latency }) => milliseconds(latency?.p50)],
    ["p95", ({ latency_ms: latency }) => milliseconds(latency?.p95)],
    ["unfamiliar", ({ unfamiliar }) => (typeof unfamiliar === "number" ? percent(unfamiliar) : "–")],
  ];
  return [
    h(
      "table",
      { class: "compared" },
      h(
        "thead",
        {},
        h(
          "tr",
          {},
          h("td"),
          sides.map(({ version, role }) => h("th", { scope: "col" }, swatch(role), t(`compared.${role}`, { version }))),
        ),
      ),
      h(
        "tbody",
        {},
        facts.map(([key, write]) =>
          h(
            "tr",
            {},
            h("th", { scope: "row" }, t(`figure.${key}`)),
            sides.map((side) => h("td", {}, write(side))),
          ),
        ),
      ),
    ),
    distribution(sides),
  ];
}

const swatch = (role) => h("span", { class: `swatch ${KINDS[role]}`, "aria-hidden": "true" });

function distribution(sides) {
  const share = ({ labels }, label) => labels?.[label] ?? 0;
  const most = (label) => Math.max(...sides.map((side) => share(side, label)));
  const labels = [...new Set(sides.flatMap((side) => Object.keys(side.labels ?? {})))];
  if (!labels.length) return null;
  labels.sort((one, other) => most(other) - most(one));
  return [
    h("h3", {}, t("canary.labels")),
    h(
      "ul",
      { class: "pairs" },
      labels.slice(0, SHOWN).map((label) =>
        h(
          "li",
          {},
          h("span", { class: "name" }, label),
          h(
            "div",
            {},
            sides.map((side) =>
              h(
                "div",
                {},
                h("span", { class: "visually-hidden" }, t(`compared.${side.role}`, side)),
                meter(share(side, label), KINDS[side.role]),
              ),
            ),
          ),
        ),
      ),
    ),
    labels.length > SHOWN && note(t("versions.more", { count: labels.length - SHOWN })),
  ];
}
