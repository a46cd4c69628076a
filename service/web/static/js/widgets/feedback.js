// Right or wrong, where that counts, and after a wrong answer what is right.

import { json } from "../api.js";
import { freshId, h, put } from "../dom.js";
import { t } from "../i18n.js";
import { detailOf } from "../models.js";
import { nameOf } from "../names.js";
import { createStatus } from "./status.js";

/**
 * @param answered `{response}` as `call` gives it.
 * @param document the answer, of one item.
 * @param judged gives the answer that somebody sees and judges, where that is another one.
 */
export function feedback(answered, { model, version, results: [result] }, judged = () => answered) {
  const element = h("div", { class: "stack", role: "group", "aria-label": t("feedback.ask") });
  const status = createStatus();
  const buttons = [true, false].map((right) =>
    h("button", { type: "button", "aria-pressed": "false", onclick: () => choose(right) }, t(`feedback.${right}`)),
  );
  const form = h("form", { class: "row", hidden: true, onsubmit: correct });
  let field = null;
  begin().catch(() => {}); // an answer without buttons is complete
  return element;

  async function begin() {
    const { feedback: counts, manifest } = await detailOf({ name: model, version });
    if (!counts) return;
    const id = freshId("truth");
    if (manifest.labels.length && result.labels) {
      const names = manifest.labels.map((label) => h("option", { value: label }, nameOf(label, manifest.data?.name)));
      field = h("select", { id }, h("option", { value: "" }, t("feedback.unsure")), names);
    } else if ("value" in result) field = h("input", { id, type: "number", step: "any" });
    if (field) put(form, h("label", { for: id }, t("feedback.truth")), field, h("button", {}, t("feedback.send")));
    put(element, h("div", { class: "row" }, h("span", {}, t("feedback.ask")), buttons), form, status.element);
  }

  function choose(right) {
    form.hidden = right || !field;
    if (form.hidden) send(right, { right });
    else {
      press(right);
      status.clear();
      field.focus();
    }
  }

  function correct(event) {
    event.preventDefault();
    const truth = field.type === "number" ? field.valueAsNumber : field.value;
    send(false, truth || truth === 0 ? { truth } : { right: false });
  }

  function press(right) {
    buttons.forEach((each, index) => each.setAttribute("aria-pressed", String(right === !index)));
  }

  async function send(right, said) {
    press(right);
    status.busy();
    try {
      const request = (await judged()).response.headers.get("x-request-id");
      const body = JSON.stringify({ feedback: [{ request, ...said }] });
      const headers = { "Content-Type": "application/json" };
      const { results } = await json("v1/feedback", { method: "POST", body, headers });
      const { state, problem } = results[0];
      status.say(problem ?? t(state === "unknown" ? "feedback.unknown" : "feedback.counted"));
    } catch (error) {
      status.show(error, () => send(right, said));
    }
  }
}
