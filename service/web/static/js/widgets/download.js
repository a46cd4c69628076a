// A table of records to keep as a file.

import { h } from "../dom.js";
import { t } from "../i18n.js";

/**
 * Buttons that save records as CSV and as JSON.
 *
 * @param name of the file, without its end.
 * @param records gives objects; their names are the columns.
 */
export function downloads(name, records) {
  const button = (kind, media, write) =>
    h(
      "button",
      { type: "button", onclick: () => save(new Blob([write(records())], { type: media }), `${name}.${kind}`) },
      t("download.as", { format: kind.toUpperCase() }),
    );
  return h(
    "div",
    { class: "row" },
    button("csv", "text/csv", csv),
    button("json", "application/json", (rows) => JSON.stringify(rows, null, 2)),
  );
}

/** A table as RFC 4180 has it; what a spreadsheet would take for a formula is text. */
export function csv(records) {
  const columns = [...new Set(records.flatMap(Object.keys))];
  const lines = [columns, ...records.map((record) => columns.map((column) => record[column] ?? ""))];
  return lines.map((cells) => `${cells.map(cell).join(",")}\r\n`).join("");
}

function cell(value) {
  const text = typeof value === "string" ? value.replace(/^[=+\-@\t\r]/, "'$&") : String(value);
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

/** Hands over a blob as a file. */
export function save(blob, name) {
  const link = h("a", { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href));
}
