// What every panel begins with: its title, a sentence, and the model to ask.

import { h } from "../dom.js";
import { t } from "../i18n.js";
import { askedAs } from "../models.js";
import { choice } from "./choice.js";

/** The heading of a panel, with a choice of models where there are several. */
export function heading(id, { models, model, onmodel }) {
  const name = askedAs(model, models);
  const select =
    models.length > 1
      ? choice(
          t("frame.model"),
          models.map((each) => [askedAs(each, models), askedAs(each, models)]),
          name,
          onmodel,
        )
      : null;
  return h(
    "div",
    { class: "headline" },
    h("div", {}, h("h1", {}, t(`nav.${id}`)), h("p", { class: "quiet" }, t(`${id}.lead`))),
    select,
  );
}

/** The model that the address names, else the first. */
export function chosenModel(models, settings) {
  return models.find((each) => askedAs(each, models) === settings.get("model")) ?? models[0];
}
