// Files that the page hands over.

import { h } from "../dom.js";

/** Hands over a blob as a file. */
export function saveAs(data, name) {
  const link = h("a", { href: URL.createObjectURL(data), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}
