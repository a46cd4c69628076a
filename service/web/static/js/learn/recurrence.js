// A recurrent unit reads a sentence word by word, and the padding after it.

import { h, put, svg } from "../dom.js";
import { number, percent, t } from "../i18n.js";
import { choice } from "../widgets/choice.js";
import { slider } from "../widgets/slider.js";
import { button, check, figure, live, player, table } from "./parts.js";
import { KEPT, PAD, SENTENCES, TOPICS, answerOf, read, readAll } from "./recurrent.js";

const PAD_NAME = "[PAD]";

export function mount(element, { signal, memory = {} }) {
  const set = Object.assign(memory, { sentence: SENTENCES[0], padding: 0, masked: false, at: 0, ...memory });
  const tokens = h("ol", { class: "tokens" });
  const answer = h("ul", { class: "bars" });
  const sums = h("div", { class: "table" });
  const said = live();
  let words;
  let states;
  const play = player({ tick: () => go(set.at + 1), pace: 0.6, within: element, signal });
  const change = (name) => (value) => {
    const whole = set.at === words.length;
    set[name] = value;
    prepare();
    go(name === "sentence" ? 0 : whole ? words.length : Math.min(set.at, words.length));
  };
  const step = (by) => () => {
    play.pause();
    go(by === 0 ? 0 : set.at + by);
  };
  element.classList.add("lab");
  put(
    element,
    h(
      "div",
      { class: "row bottom" },
      choice(t("recurrence.sentence"), SENTENCES.map((each) => [each, each]), set.sentence, change("sentence")),
      h(
        "div",
        { class: "grow" },
        slider({
          name: t("recurrence.padding"),
          min: 0,
          max: 10,
          step: 1,
          value: set.padding,
          show: number,
          onmove: change("padding"),
        }).element,
      ),
      check(t("recurrence.mask"), set.masked, change("masked")),
    ),
    h("p", { class: "quiet small" }, t("recurrence.key")),
    tokens,
    h(
      "div",
      { class: "row" },
      play.toggle,
      button(t("ap.back"), step(-1)),
      button(t("recurrence.next"), step(1)),
      button(t("recurrence.end"), () => {
        play.pause();
        go(words.length);
      }),
      button(t("recurrence.reset"), step(0)),
    ),
    h(
      "div",
      { class: "halves" },
      h("div", {}, h("h4", {}, t("recurrence.sum")), sums),
      h("div", {}, h("h4", {}, t("recurrence.answer")), answer, said.element),
    ),
  );
  prepare();
  go(set.at);

  function prepare() {
    words = [...set.sentence.split(" "), ...Array(set.padding).fill(PAD)];
    states = readAll(words, set.masked);
  }

  /** Shows the state after so many words, and says whether more follow. */
  function go(at) {
    set.at = Math.max(0, Math.min(words.length, at));
    const focused = tokens.contains(document.activeElement);
    put(tokens, words.map(token));
    if (focused) tokens.querySelectorAll("button")[Math.max(0, set.at - 1)].focus();
    const word = words[set.at - 1];
    const skipped = set.at > 0 && word === PAD && set.masked;
    if (set.at === 0) put(sums, h("p", { class: "quiet" }, t("recurrence.empty")));
    else put(sums, skipped ? h("p", {}, t("recurrence.skipped")) : sumTable(word));
    const shares = answerOf(states[set.at]);
    const best = shares.indexOf(Math.max(...shares));
    put(answer, shares.map((share, unit) => bar(share, unit, unit === best && set.at > 0)));
    const read = word === undefined ? t("recurrence.begin") : t("recurrence.after", { word: word ?? PAD_NAME });
    said.say(`${read} ${TOPICS.map((topic, unit) => `${t(`topic.${topic}`)} ${percent(shares[unit], 0)}`).join(", ")}`);
    return set.at < words.length;
  }

  function token(word, index) {
    const after = index + 1;
    const text = word ?? PAD_NAME;
    return h(
      "li",
      {},
      h(
        "button",
        {
          type: "button",
          class: word === PAD ? "pad" : null,
          "aria-current": after === set.at ? "step" : null,
          onclick: () => {
            play.pause();
            go(after);
          },
        },
        text,
        columns(after <= set.at ? states[after] : null, word === PAD && set.masked),
      ),
    );
  }

  function sumTable(word) {
    const rows = read(states[set.at - 1], word).map((parts, unit) => [
      t(`topic.${TOPICS[unit]}`),
      ...[parts.word, parts.kept, parts.bias, parts.sum].map((each) => figure(each, 2)),
      h("td", {}, h("strong", {}, figure(parts.state, 2))),
    ]);
    const parts = [t("recurrence.word"), t("recurrence.kept", { kept: number(KEPT, 1) }), t("neuron.bias")];
    return table(t("recurrence.sum"), ["", ...parts, t("recurrence.total"), "tanh"], rows);
  }
}

/** The state as three bars, up or down from a line. */
function columns(state, skipped) {
  const bars = (state ?? []).map((value, unit) => {
    const height = 14 * Math.abs(value);
    return svg("rect", { class: `unit-${unit}`, x: 4 + 11 * unit, y: value > 0 ? 16 - height : 16, width: 8, height });
  });
  const line = svg("line", { x1: 0, x2: 38, y1: 16, y2: 16 });
  const look = skipped ? "columns-of-state skipped" : "columns-of-state";
  return svg("svg", { viewBox: "0 0 38 32", class: look, "aria-hidden": "true" }, line, bars);
}

function bar(share, unit, chosen) {
  const fill = h("div", { class: `bar-fill unit-${unit}` });
  fill.style.width = `${100 * share}%`;
  return h(
    "li",
    { class: chosen ? "chosen" : null },
    h("span", { class: "name" }, t(`topic.${TOPICS[unit]}`)),
    h("div", { class: "bar-track", "aria-hidden": "true" }, fill),
    h("span", { class: "value" }, percent(share, 0)),
  );
}
