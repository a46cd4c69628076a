// How recent inputs and answers of a model differ from its validation split.

import { json } from "../api.js";
import { h, note, put, whenChanged } from "../dom.js";
import { brief, hasText, moment, number, percent, t } from "../i18n.js";
import { poll } from "../poll.js";
import { section } from "../widgets/frame.js";
import { histogram } from "../widgets/histogram.js";
import { more } from "../widgets/more.js";
import { createStatus } from "../widgets/status.js";

const SECONDS = 10;

/** @param model that has histograms of its validation split. */
export function driftSection({ name, version }, signal) {
  const path = `v1/models/${encodeURIComponent(name)}/drift?version=${encodeURIComponent(version)}`;
  const status = createStatus();
  const element = h("div", { class: "stack" }, status.element);
  const said = h("p", { role: "status" });
  const accuracy = h("div", { class: "stack" });
  const list = h("div", { class: "stack" });
  const card = section(
    "drift.title",
    h("h2", {}, t("drift.title")),
    said,
    accuracy,
    list,
    note(t("drift.key")),
  );
  const rows = new Map(); // they stay while their numbers change, so that the focus stays too
  const showSaid = whenChanged((state) => put(said, sentence(state)));
  const showAccuracy = whenChanged((found) => put(accuracy, found && accuracyOf(found)));
  const soon = poll(element, refresh, { seconds: SECONDS, signal, onerror: complain });
  return element;

  async function refresh() {
    const state = await json(path, { signal });
    if (!card.isConnected) put(element, card, status.element);
    showSaid({ items: state.items, needed: state.needed, since: state.since, drifted: state.drifted?.length });
    showAccuracy(state.accuracy);
    for (const feature of state.features) {
      const key = `${feature.part} ${feature.name}`;
      if (!rows.has(key)) {
        rows.set(key, row(key, feature));
        list.append(rows.get(key).element);
      }
      rows.get(key).show(feature);
    }
    status.clear();
  }

  function complain(error) {
    status.show(error, soon);
  }
}

function sentence({ items, needed, since, drifted }) {
  if (items < needed) return t("drift.waits", { items: number(items), needed: number(needed) });
  const values = { items: number(items), time: moment(since), count: number(drifted) };
  return t(drifted ? "drift.some" : "drift.none", values);
}

function accuracyOf({ estimate, low, high, test, warning }) {
  const share = (value) => percent(value);
  return [
    h(
      "p",
      {},
      t("drift.accuracy", { estimate: share(estimate), low: share(low), high: share(high) }),
      " ",
      test !== null && t("drift.test", { test: share(test) }),
    ),
    warning && h("p", { class: "problem", lang: "en" }, warning),
  ];
}

function row(key, feature) {
  const name = nameOf(feature);
  const facts = h("span", { class: "quiet" });
  const mark = h("span", {});
  const plot = h("div", {});
  const element = more(`drift ${key}`, [h("span", {}, name), " ", facts, " ", mark], plot);
  const draw = whenChanged((found) => put(plot, histogram({ ...found, name })));
  return {
    element,
    show(found) {
      const { distance, threshold, drifted } = found;
      facts.textContent =
        distance === null ? "" : t("drift.distance", { distance: brief(distance, 2), threshold: brief(threshold, 2) });
      put(mark, drifted && h("span", { class: "chip warn" }, t("drift.drifted")));
      draw(found);
    },
  };
}

/** The name of a statistic; columns of a table have their own. */
function nameOf({ part, name }) {
  const key = `statistic.${part}.${name.replaceAll(" ", "-")}`;
  return hasText(key) ? t(key) : name;
}
