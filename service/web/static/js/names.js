// Readable names of the labels of known data sets, in the page's language.

import { hasText, t } from "./i18n.js";

const TABLES = [
  [/CIFAR-10/, (label) => `cifar.${label}`],
  [/BCCD/, (label) => `bccd.${label}`],
  [/breast.cancer/i, (label) => `breast.${label}`],
  [/Reuters/, (label) => `reuters.${label}`],
];

/**
 * The name of a label; the label itself where the page has no other.
 *
 * @param data the name of the model's data set, as its manifest has it.
 */
export function nameOf(label, data = "") {
  const key = TABLES.find(([pattern]) => pattern.test(data))?.[1](label);
  return key && hasText(key) ? t(key) : label;
}
