// What the browser keeps for the page; where it may keep nothing, the page forgets it when it is closed.

function kept(open) {
  const otherwise = new Map();
  return {
    get(name) {
      try {
        return open().getItem(name);
      } catch {
        return otherwise.get(name) ?? null;
      }
    },
    set(name, value) {
      try {
        open().setItem(name, value);
      } catch {
        otherwise.set(name, value);
      }
    },
    remove(name) {
      otherwise.delete(name);
      try {
        open().removeItem(name);
      } catch {
        // It has kept nothing.
      }
    },
  };
}

/** Kept until somebody clears it. */
export const lasting = kept(() => localStorage);

/** Gone with the tab. */
export const ofTab = kept(() => sessionStorage);
