// Under which terms the samples of the committed models come.

import { t } from "./i18n.js";

const KNOWN = [
  [/CIFAR-10/, "licence.cifar"],
  [/MNIST/, "licence.mnist"],
  [/BCCD/, "licence.bccd"],
  [/Reuters/i, "licence.reuters"],
  [/breast.cancer/i, "licence.breast"],
];

/** A sentence; empty for data that the project knows nothing of. */
export function licenceOf(data) {
  const found = KNOWN.find(([pattern]) => pattern.test(data));
  return found ? t(found[1]) : "";
}
