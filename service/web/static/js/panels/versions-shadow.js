// A shadow: how often it agrees with the version that answers, per class and over time, and where it differs most.

import { h, note, put, whenChanged } from "../dom.js";
import { brief, number, percent, roughly, t } from "../i18n.js";
import { intervals } from "../widgets/intervals.js";
import { trend } from "../widgets/trend.js";
import { examplesList } from "./versions-examples.js";

const SHOWN = 10; // classes

/** @param path of the examples' inputs. */
export function shadowPart(path, signal) {
  const title = h("h2");
  const condition = h("p", { class: "quiet small" });
  const figures = h("div", { class: "stack" });
  const examples = examplesList(path, signal);
  const element = h(
    "section",
    { class: "card stack", "aria-label": t("shadow.title"), hidden: true },
    title,
    condition,
    figures,
    examples.element,
  );
  const drawTitle = whenChanged((shadow) => {
    element.hidden = !shadow;
    if (!shadow) return;
    put(title, t("shadow.of", { version: shadow.version }));
    put(condition, t("shadow.share", { share: roughly(shadow.share) }), " ", conditionOf(shadow.promote));
  });
  const draw = whenChanged((found) => put(figures, figuresOf(found)));
  return {
    element,
    show: ({ shadow }) => drawTitle(shadow),
    figures({ examples: found, ...rest }) {
      draw(rest);
      examples.show({ examples: found, version: rest.version, against: rest.against });
    },
  };
}

function conditionOf(promote) {
  if (!promote) return null;
  return t("shadow.promote", { agreement: roughly(promote.agreement), after: number(promote.after) });
}

function figuresOf({ against, measure, compared, dropped, failed, agreement, difference, classes, over_time: series }) {
  const all = agreement && { name: t("shadow.all"), count: compared, ...agreement };
  const ranked = [...classes].sort((one, other) => one.agreement - other.agreement);
  const points = series
    .filter((each) => each.compared)
    .map((each) => ({ ...each, share: each.agreed / each.compared }));
  return [
    h("p", {}, t("shadow.counts", { against, compared: number(compared), dropped: number(dropped) })),
    failed > 0 && h("p", { class: "problem" }, t("shadow.failed", { count: number(failed) })),
    all && h("p", { class: "large-number" }, percent(agreement.value, 2)),
    all && h("p", { class: "quiet" }, t("shadow.measure"), " ", h("span", { lang: "en" }, measure)),
    difference && h("p", { class: "small" }, t("shadow.difference", briefly(difference))),
    points.length > 0 && [h("h3", {}, t("shadow.time")), trend(points)],
    all && [
      h("h3", {}, t("shadow.classes")),
      intervals([
        all,
        ...ranked
          .slice(0, SHOWN)
          .map(({ label, agreement: value, low, high, compared: count }) => ({ name: label, value, low, high, count })),
      ]),
      ranked.length > SHOWN && note(t("versions.more", { count: ranked.length - SHOWN })),
    ],
  ];
}

const briefly = (figures) =>
  Object.fromEntries(Object.entries(figures).map(([name, value]) => [name, brief(value, 3)]));
