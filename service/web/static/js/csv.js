// Tables as text, as they are pasted from files and spreadsheets.

const DELIMITERS = ["\t", ";", ","];

/** `{rows, delimiter}`, rows of cells. The delimiter is the first of tab, semicolon and comma in the first line. */
export function parseCsv(text) {
  const [first] = text.trimStart().split(/\r?\n/, 1);
  const delimiter = DELIMITERS.find((each) => first.includes(each)) ?? ",";
  const cell = new RegExp(`(?:"((?:[^"]|"")*)"|([^${delimiter}\\r\\n]*))(${delimiter}|\\r?\\n|$)`, "g");
  const rows = [[]];
  for (const [, quoted, plain, end] of text.matchAll(cell)) {
    rows.at(-1).push(quoted === undefined ? plain.trim() : quoted.replaceAll('""', '"'));
    if (end !== delimiter) rows.push([]);
  }
  return { rows: rows.filter((row) => row.some((each) => each !== "")), delimiter };
}
