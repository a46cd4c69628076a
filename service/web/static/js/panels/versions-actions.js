// What can be done about the versions of a model. The server decides who may: a refusal is shown as it comes.

import { json } from "../api.js";
import { h, put, whenChanged } from "../dom.js";
import { t } from "../i18n.js";
import { choice } from "../widgets/choice.js";
import { confirm } from "../widgets/confirm.js";

const SHARE = { type: "number", min: 0.1, max: 100, step: "any", required: true };
const NAME = { type: "text", required: true, maxlength: 64, autocomplete: "off" };

/** What is done with a version that is chosen: the request, and the fields that it needs. */
const OF_VERSION = {
  promote: {
    fields: () => [
      { name: "agreement", label: t("action.agreement"), type: "number", min: 0, max: 100, step: "any" },
      { name: "after", label: t("action.after"), type: "number", min: 1, step: 1, value: 1000 },
    ],
    request: (version, { agreement, after }) => {
      const condition = agreement && { if_agreement: Number(agreement) / 100, ...(after && { after: Number(after) }) };
      return ["POST", "promote", { version, ...condition }];
    },
  },
  pin: { request: (version) => ["POST", "pin", { version }] },
  canary: {
    fields: () => [{ name: "share", label: t("action.share"), value: 5, ...SHARE }],
    request: (version, { share }) => ["PUT", "canary", { version, share: Number(share) / 100 }],
  },
  shadow: {
    fields: () => [{ name: "share", label: t("action.share"), value: 100, ...SHARE }],
    request: (version, { share }) => ["PUT", "shadow", { version, share: Number(share) / 100 }],
  },
  alias: {
    fields: () => [{ name: "alias", label: t("action.alias"), ...NAME }],
    request: (version, { alias }) => ["PUT", `aliases/${encodeURIComponent(alias)}`, { version }],
  },
};

/** What needs no choice of a version: the version that it is about, if it makes sense now; and the request. */
const OF_MODEL = {
  rollback: { about: ({ previous }) => previous, request: () => ["POST", "rollback", {}] },
  endCanary: { about: ({ canary }) => canary?.version, request: () => ["DELETE", "canary"] },
  endShadow: { about: ({ shadow }) => shadow?.version, request: () => ["DELETE", "shadow"] },
};

/**
 * @param path of the model.
 * @param onstate is given the state that an action has led to.
 */
export function versionActions(path, onstate) {
  const chooser = h("div");
  const general = h("div", { class: "row" });
  const buttons = Object.entries(OF_VERSION).map(([id, action]) => button(id, action, () => chosen));
  const element = h(
    "details",
    { class: "actions" },
    h("summary", {}, t("action.title")),
    h("div", { class: "stack" }, h("div", { class: "row bottom" }, chooser, buttons), general),
  );
  let model = "";
  let chosen = null;
  const drawChooser = whenChanged(({ numbers, proposed }) => {
    if (!numbers.includes(chosen)) chosen = proposed;
    const options = numbers.map((each) => [each, each]);
    put(
      chooser,
      choice(t("frame.version"), options, chosen, (version) => {
        chosen = version;
      }),
    );
  });
  const drawGeneral = whenChanged((about) =>
    put(
      general,
      about.map(([id, version]) => button(id, OF_MODEL[id], () => version)),
    ),
  );
  return {
    element,
    show(state) {
      model = state.model;
      const numbers = state.versions.filter(({ status }) => status !== "refused").map(({ version }) => version);
      drawChooser({ numbers, proposed: numbers.find((each) => each !== state.default) ?? numbers[0] });
      const about = Object.entries(OF_MODEL).map(([id, action]) => [id, action.about(state)]);
      drawGeneral(about.filter(([, version]) => version));
    },
  };

  function button(id, { fields = () => [], request }, versionOf) {
    const open = () => {
      const values = { version: versionOf(), model };
      confirm({
        title: t(`${id}.question`, values),
        text: t(`${id}.means`, values),
        verb: t(`${id}.verb`, values),
        fields: fields(),
        act: (given) => send(request(values.version, given)),
      });
    };
    return h(
      "button",
      { type: "button", onclick: open },
      t(`${id}.verb`, { version: id in OF_MODEL ? versionOf() : "" }),
    );
  }

  async function send([method, route, document]) {
    const options = document && { body: JSON.stringify(document), headers: { "Content-Type": "application/json" } };
    onstate(await json(`${path}/${route}`, { method, ...options }));
  }
}
