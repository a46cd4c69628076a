// Asks before something is done; says why where the server refuses it.

import { freshId, h } from "../dom.js";
import { t } from "../i18n.js";
import { createStatus } from "./status.js";

/**
 * @param title what is to be done, as a question.
 * @param text what that means.
 * @param fields `{name, label, ...}` each, with the attributes of an input.
 * @param verb what the button says that does it.
 * @param act does it, given the values of the fields by their names; throws where it is refused.
 */
export function confirm({ title, text, fields = [], verb, act }) {
  const titleId = freshId("title");
  const formId = freshId("form");
  const status = createStatus();
  const inputs = new Map();
  const form = h("form", { id: formId, class: "stack", hidden: !fields.length, onsubmit: submit }, fields.map(field));
  const button = h("button", { class: "primary", form: formId }, verb);
  const dialog = h(
    "dialog",
    { "aria-labelledby": titleId, onclose: () => dialog.remove() },
    h(
      "div",
      { class: "stack" },
      h("h2", { id: titleId }, title),
      h("p", {}, text),
      form,
      status.element, // beside the form: it may hold one that asks for a key
      h(
        "div",
        { class: "row" },
        button,
        h("button", { type: "button", onclick: () => dialog.close() }, t("confirm.cancel")),
      ),
    ),
  );
  document.body.append(dialog);
  dialog.showModal();

  function field({ name, label, ...attributes }) {
    const id = freshId("field");
    const input = h("input", { id, ...attributes });
    inputs.set(name, input);
    return h("div", { class: "field" }, h("label", { for: id }, label), input);
  }

  async function submit(event) {
    event?.preventDefault();
    if (button.disabled) return;
    button.disabled = true;
    status.busy();
    try {
      await act(Object.fromEntries([...inputs].map(([name, input]) => [name, input.value.trim()])));
      dialog.close();
    } catch (error) {
      status.show(error, submit);
    }
    button.disabled = false;
  }
}
