// Begins: shows the header, asks what is served, and shows the panel that the address names.

import { ROOT } from "./api.js";
import { h, put } from "./dom.js";
import { language, setLanguage } from "./i18n.js";
import { listModels } from "./models.js";
import { available, panelOf } from "./panels.js";
import { readAddress, settingsOf } from "./router.js";
import { showFooter, showHeader } from "./shell.js";
import { applyTheme } from "./theme.js";
import { createStatus } from "./widgets/status.js";

// The page of a model card is at /models/NAME/VERSION, below whatever a proxy has put before it.
const CARD = /\/models\/([^/]+)\/([^/]+)\/?$/.exec(location.pathname);
// The course is at /learn, and its sections are below that.
const LEARN = /^learn(\/|$)/.test(location.pathname.slice(ROOT.pathname.length));

const main = document.getElementById("main");
const memories = new Map(); // by panel: what it keeps while others are shown, and over a change of language
let served = null;
let trouble = null; // why it is not known what is served
let leave = new AbortController();

applyTheme();
document.documentElement.lang = language;
start();

async function start() {
  const status = createStatus();
  showHeader({ panels: [], current: null, onlanguage: changeLanguage });
  put(main, h("h1", { class: "visually-hidden" }, "Quartet"), status.element);
  status.busy();
  try {
    served = await listModels();
  } catch (error) {
    // The course is there to be read all the same.
    if (!LEARN) {
      status.show(error, start);
      return;
    }
    served = { models: [] };
    trouble = error;
  }
  if (!LEARN) addEventListener("hashchange", () => show(true));
  await show(false);
}

function changeLanguage(chosen) {
  setLanguage(chosen);
  if (served) show(false);
  else start();
}

/** Shows the panel anew, for another model or version; the focus stays where it was chosen. */
async function again() {
  const choices = () => [...main.querySelectorAll(".headline select")];
  const at = choices().indexOf(document.activeElement);
  await show(false);
  choices()[at]?.focus();
}

/** @param moved whether somebody went here from another panel, so that the focus follows. */
async function show(moved) {
  leave.abort();
  leave = new AbortController();
  const { signal } = leave;
  const panels = available(served.models);
  const wanted = readAddress().panel;
  const panel = LEARN ? panelOf("learn") : CARD ? panelOf("card") : (panels.find(({ id }) => id === wanted) ?? panels[0]);
  showHeader({ panels, current: panel.id, onlanguage: changeLanguage });
  showFooter();
  const { render } = await panel.load();
  if (signal.aborted) return;
  if (!memories.has(panel.id)) memories.set(panel.id, {});
  put(main);
  render(main, {
    models: panel.tasks ? served.models.filter(({ task }) => panel.tasks.includes(task)) : served.models,
    refused: served.refused,
    disagreeing: served.disagreeing,
    settings: settingsOf(panel.id),
    memory: memories.get(panel.id),
    trouble,
    moved,
    card: CARD && { name: decodeURIComponent(CARD[1]), version: decodeURIComponent(CARD[2]) },
    again,
    move: () => show(true),
    signal,
  });
  if (moved && !LEARN) {
    main.focus({ preventScroll: true });
    scrollTo(0, 0);
  }
}
