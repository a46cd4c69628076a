// Who answered, and behind that where the milliseconds went.

import { timingOf } from "../api.js";
import { h } from "../dom.js";
import { number, t } from "../i18n.js";
import { more } from "./more.js";

const STEPS = ["decode", "queue", "inference", "rest"];

/**
 * @param answered `{response, seconds}` as `call` gives it.
 * @param who `{model, version, device, variant}` as the answer says.
 */
export function timing(answered, who) {
  const { steps, rest, total } = timingOf(answered);
  const spent = { ...steps, rest };
  const track = h("div", { class: "track", "aria-hidden": "true" });
  const legend = h("ul");
  for (const step of STEPS.filter((each) => each in spent)) {
    const part = h("span", { class: `step-${step}` });
    part.style.flexGrow = String(spent[step]);
    track.append(part);
    legend.append(
      h(
        "li",
        {},
        h("span", { class: `dot step-${step}`, "aria-hidden": "true" }),
        t(`timing.${step}`, { ms: number(spent[step], 1) }),
      ),
    );
  }
  const device = who.variant && who.variant !== "reference" ? `${who.device} (${who.variant})` : who.device;
  return more(
    "timing",
    t("timing.who", { ...who, device, ms: number(total, 1) }),
    // A stream does not say where its time went.
    h("div", { class: "timing" }, Object.keys(steps).length ? [track, legend] : t("timing.stream")),
  );
}
