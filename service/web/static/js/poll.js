// Repeats work while its result can be seen.

import { keys } from "./api.js";

const LONGEST_MS = 60_000;

/**
 * Runs `work` now, and again some time after it has ended, while the element is on the screen and the tab is shown.
 *
 * The pause doubles with each failure in a row, up to a minute, and is no shorter than the server asks for. Where a key
 * is missing, nothing runs until there is another one.
 *
 * @param work is given the signal.
 * @param onerror is given what `work` has thrown.
 * @returns what lets it run again at once.
 */
export function poll(element, work, { seconds, signal, onerror }) {
  let timer = 0;
  let due = 0; // by the clock of the page
  let failures = 0;
  let running = false;
  let hurried = false;
  let seen = false;
  const observer = new IntersectionObserver((entries) => {
    seen = entries.at(-1).isIntersecting;
    plan();
  });
  observer.observe(element);
  document.addEventListener("visibilitychange", plan, { signal });
  keys.addEventListener("change", soon, { signal });
  signal.addEventListener("abort", () => {
    clearTimeout(timer);
    observer.disconnect();
  });
  return soon;

  function plan() {
    clearTimeout(timer);
    if (running || !seen || document.hidden || signal.aborted || due === Infinity) return;
    timer = setTimeout(run, Math.max(0, due - performance.now()));
  }

  async function run() {
    running = true;
    hurried = false;
    let pause = 1000 * seconds;
    try {
      await work(signal);
      failures = 0;
    } catch (error) {
      if (signal.aborted) return;
      failures += 1;
      pause = pauseAfter(error, Math.min(LONGEST_MS, pause * 2 ** failures));
      onerror(error);
    }
    running = false;
    due = hurried ? 0 : performance.now() + pause;
    plan();
  }

  function soon() {
    hurried = true;
    due = 0;
    plan();
  }
}

function pauseAfter(error, otherwise) {
  if (error.kind === "key" || error.kind === "forbidden") return Infinity;
  return Math.max(otherwise, 1000 * (error.retryAfter ?? 0));
}
