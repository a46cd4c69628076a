// What is shown, and its settings, as they stand in the address: `#/detect?confidence=0.4`.

/** The panel and its settings. */
export function readAddress() {
  const [path, query = ""] = location.hash.replace(/^#\/?/, "").split("?");
  return { panel: path, settings: new URLSearchParams(query) };
}

/** Settings of the panel that is shown; changing one changes the address, but adds nothing to the history. */
export function settingsOf(panel) {
  return {
    get: (name, otherwise = null) => readAddress().settings.get(name) ?? otherwise,
    number(name, otherwise) {
      const value = Number.parseFloat(readAddress().settings.get(name));
      return Number.isFinite(value) ? value : otherwise;
    },
    entries: () => [...readAddress().settings.entries()],
    set(changes) {
      const { panel: shown, settings } = readAddress();
      const params = shown === panel || !shown ? settings : new URLSearchParams();
      for (const [name, value] of Object.entries(changes)) {
        if (value === null || value === undefined || value === "") params.delete(name);
        else params.set(name, value);
      }
      const query = params.toString();
      history.replaceState(history.state, "", `#/${panel}${query ? `?${query}` : ""}`);
    },
  };
}
