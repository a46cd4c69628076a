// A form of the columns of a table, in groups, with a slider for each number.

import { freshId, h } from "../dom.js";
import { brief, t } from "../i18n.js";

const FEWEST = 3; // columns in a group

/**
 * @param onchange is given the index of a column that somebody has changed, and what its field holds.
 * @returns `element`; `row`, the values as a request has them; and `enter`, which is given some columns' values.
 */
export function columnForm(columns, onchange) {
  const fields = new Map(
    columns.map((column, index) => [column.name, fieldOf(column, (text) => onchange(index, text))]),
  );
  const groups = groupsOf(columns);
  const element = h(
    "form",
    { class: "stack", novalidate: true, onsubmit: (event) => event.preventDefault(), "aria-label": t("numbers.form") },
    groups.map(({ word, columns: members }) =>
      h(
        "fieldset",
        { class: "card" },
        h("legend", {}, word || t("numbers.columns", { count: members.length })),
        h(
          "div",
          { class: "grid" },
          members.map((column) => fields.get(column.name).element(word)),
        ),
      ),
    ),
  );
  return {
    element,
    row: () => Object.fromEntries(columns.map(({ name }) => [name, fields.get(name).value])),
    enter(values) {
      for (const [name, value] of Object.entries(values)) fields.get(name)?.enter(value ?? "");
    },
  };
}

/** Columns by a word that their names begin or end with, where several share one: `{word, columns}`. */
function groupsOf(columns) {
  const ends = columns.map(({ name }) => {
    const words = name.split(/[\s_.]+/);
    return words.length > 1 ? [words[0], words.at(-1)] : [];
  });
  const counts = new Map();
  for (const word of ends.flat()) counts.set(word, (counts.get(word) ?? 0) + 1);
  const wordOf = (_, index) => {
    const [first] = ends[index].sort((one, other) => counts.get(other) - counts.get(one));
    return counts.get(first) >= FEWEST ? first : "";
  };
  return [...Map.groupBy(columns, wordOf)].map(([word, members]) => ({ word, columns: members }));
}

const isNumber = (column) => column.kind === "number";

/** Whether a column's values are plain numbers; one with a unit or a decimal comma is text. */
const isPlain = (column) => isNumber(column) && !column.unit && !column.group && column.decimal === ".";

function fieldOf(column, onchange) {
  const [id, hint] = [freshId("column"), freshId("hint")];
  const input = inputFor(column, { id, "aria-describedby": hint });
  const slider = isPlain(column) && column.high > column.low ? sliderFor(column) : null;
  const note = h("span", { id: hint, class: "quiet small ends" });
  input.addEventListener("input", () => changed());
  slider?.addEventListener("input", () => {
    input.value = brief4(Number(slider.value));
    changed();
  });
  mark();

  function changed() {
    mark();
    onchange(input.value);
  }

  /** Moves the slider, and says so of a value that lies beyond those of the training rows. */
  function mark() {
    if (!isPlain(column)) return;
    const value = input.value === "" ? null : Number(input.value);
    const measured = column.low !== null;
    const outside = measured && value !== null && (value < column.low || value > column.high);
    input.classList.toggle("outside", outside);
    if (slider) slider.value = String(value ?? column.mean);
    slider?.classList.toggle("empty", value === null);
    if (measured)
      note.textContent = `${brief(column.low)} – ${brief(column.high)}${outside ? ` · ${t("numbers.outside")}` : ""}`;
  }

  return {
    element: (word) =>
      h(
        "div",
        { class: isPlain(column) ? "field column" : "field column wide" },
        h("label", { for: id }, nameIn(column.name, word)),
        input,
        slider,
        note,
      ),
    get value() {
      if (input.value === "") return null;
      return isPlain(column) ? Number(input.value) : input.value;
    },
    enter(value) {
      // A word that a list does not have is added to it.
      if (input.options && ![...input.options].some((option) => option.value === String(value)))
        input.append(h("option", { value }, value));
      input.value = value;
      mark();
    },
  };
}

/** A column's name, of which its group's word is only heard. */
function nameIn(name, word) {
  if (!word) return name;
  const hidden = h("span", { class: "visually-hidden" }, name.startsWith(word) ? `${word} ` : ` ${word}`);
  return name.startsWith(word) ? [hidden, name.slice(word.length + 1)] : [name.slice(0, -word.length - 1), hidden];
}

/** A field for numbers, a list of the words that a column has, or a field for text. */
function inputFor(column, attributes) {
  if (column.values.length)
    return h(
      "select",
      attributes,
      [...(column.required ? [] : [""]), ...column.values].map((word) => h("option", { value: word }, word)),
    );
  if (!isPlain(column)) return h("input", { ...attributes, type: "text" });
  return h("input", { ...attributes, type: "number", step: stepOf(column), ".value": startOf(column) });
}

/** The field beside it does the same for the keyboard and for those who do not see. */
const sliderFor = ({ low, high }) =>
  h("input", { type: "range", min: low, max: high, step: "any", tabindex: "-1", "aria-hidden": "true" });

/** What the field holds at first; a model that was trained elsewhere may state nothing. */
function startOf({ mean, typical }) {
  const number = typical ?? mean;
  return number === null || number === undefined ? "" : brief4(number);
}

/** What an arrow key adds: a power of ten, about a hundredth of the range. */
function stepOf({ low, high, integer }) {
  if (integer) return 1;
  return high > low ? 10 ** Math.floor(Math.log10((high - low) / 50)) : "any";
}

const brief4 = (value) => String(Number(value.toPrecision(4)));
