// Tables as text, as they are pasted from files and spreadsheets.

const DELIMITERS = ["\t", ";", ","];

/** Rows of cells. The delimiter is the first of tab, semicolon and comma that the first line has. */
export function parseCsv(text) {
  const [first] = text.trimStart().split(/\r?\n/, 1);
  const delimiter = DELIMITERS.find((each) => first.includes(each)) ?? ",";
  const cell = new RegExp(`(?:"((?:[^"]|"")*)"|([^${delimiter}\\r\\n]*))(${delimiter}|\\r?\\n|$)`, "g");
  const rows = [[]];
  for (const [, quoted, plain, end] of text.matchAll(cell)) {
    rows.at(-1).push(quoted === undefined ? plain.trim() : quoted.replaceAll('""', '"'));
    if (end !== delimiter) rows.push([]);
  }
  return rows.filter((row) => row.some((each) => each !== ""));
}

/** @param rows arrays of cells. */
export const writeCsv = (rows) => `${rows.map((row) => row.map(quote).join(",")).join("\r\n")}\r\n`;

function quote(cell) {
  const text = String(cell ?? "");
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}
