// Light or dark: as the system has it, until somebody chooses.

import { lasting } from "./storage.js";

const STORED = "quartet.theme";

export function applyTheme() {
  const chosen = lasting.get(STORED);
  if (chosen) document.documentElement.dataset.theme = chosen;
}

export function isDark() {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
}

export function toggleTheme() {
  const next = isDark() ? "light" : "dark";
  document.documentElement.dataset.theme = next;
  lasting.set(STORED, next);
}
