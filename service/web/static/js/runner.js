// Runs a panel's requests one at a time; of those that come meanwhile, the newest is next and the others are dropped.

/**
 * @param work what to run; is given whatever `run` was given, and a signal that ends with the panel.
 * @param status shows that it runs, and what went wrong.
 * @param clear takes away the last answer, which is not one to what has failed.
 */
export function createRunner(work, status, signal, clear = () => {}) {
  let running = false;
  let next = null;

  async function run(...given) {
    if (running) {
      next = given;
      return;
    }
    running = true;
    status.busy();
    try {
      await work(...given, signal);
      status.clear();
    } catch (error) {
      if (error.name !== "AbortError" && !signal.aborted) {
        clear();
        status.show(error, () => run(...given));
      }
    }
    running = false;
    if (next && !signal.aborted) {
      const waiting = next;
      next = null;
      run(...waiting);
    }
  }

  return run;
}
