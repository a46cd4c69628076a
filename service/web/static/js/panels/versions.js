// The versions of a model: which answer, what is tried, and what can be done about it.

import { json } from "../api.js";
import { h, note, put, whenChanged } from "../dom.js";
import { moment, t } from "../i18n.js";
import { poll } from "../poll.js";
import { section } from "../widgets/frame.js";
import { createStatus } from "../widgets/status.js";
import { versionActions } from "./versions-actions.js";
import { canaryPart } from "./versions-canary.js";
import { shadowPart } from "./versions-shadow.js";
import { versionTable } from "./versions-table.js";

const SECONDS = 4;

/** Shows nothing for a model of which there is one version and no policy. */
export function versionsSection(name, signal) {
  const path = `v1/models/${encodeURIComponent(name)}`;
  const status = createStatus();
  const element = h("div", { class: "stack card-versions" }, status.element);
  const table = versionTable(name);
  const actions = versionActions(path, show);
  const canary = canaryPart();
  const shadow = shadowPart(`${path}/shadow/examples`, signal);
  const last = h("p", { class: "quiet small", role: "status" });
  const verdict = h("p", { role: "status" });
  const file = h("div", { class: "stack" });
  const card = section(
    "versions.title",
    h("h2", {}, t("versions.title")),
    table.element,
    verdict,
    last,
    file,
    actions.element,
  );
  const showFile = whenChanged((policy) => put(file, policyOf(policy)));
  // They are live regions: what has not changed is not said again.
  const showLast = whenChanged((change) =>
    put(last, change && t("versions.last", { ...change, time: moment(change.time) })),
  );
  const showVerdict = whenChanged((text) => put(verdict, text && h("span", { class: "chip", lang: "en" }, text)));
  let shown = null; // the state that was shown last
  const soon = poll(element, refresh, { seconds: SECONDS, signal, onerror: complain });
  return element;

  async function refresh() {
    const before = shown;
    const state = await json(`${path}/policy`, { signal });
    if (shown !== before) return; // an action has changed it meanwhile
    draw(state);
    // Both are shown even where one fails, which then slows the polling down.
    const parts = [
      [canary, state.canary, `${path}/canary`],
      [shadow, state.shadow, `${path}/shadow`],
    ];
    const ended = await Promise.allSettled(parts.map(([part, trial, from]) => trial && figures(part, from)));
    const failed = ended.find((each) => each.status === "rejected");
    if (failed) throw failed.reason;
    status.clear();
  }

  async function figures(part, from) {
    try {
      part.figures(await json(from, { signal }));
    } catch (error) {
      if (error.status !== 404) throw error; // it has just ended
    }
  }

  /** Shows the state that an action has led to. */
  function show(state) {
    draw(state);
    soon();
  }

  function draw(state) {
    shown = state;
    if (state.versions.length < 2 && !state.policy.exists) return;
    if (!card.isConnected) put(element, card, status.element, canary.element, shadow.element);
    table.show(state);
    showVerdict(state.verdict);
    showLast(state.last);
    showFile(state.policy);
    actions.show(state);
    canary.show(state);
    shadow.show(state);
  }

  function complain(error) {
    // A model that is not served has no versions to show; the card says so.
    if (shown || error.status !== 404) status.show(error, soon);
  }
}

function policyOf({ file, writable, error }) {
  return [
    error && h("p", { class: "problem" }, t("versions.invalid"), " ", h("span", { lang: "en" }, error)),
    note(t(writable ? "versions.file" : "versions.readonly", { file })),
  ];
}
