// The panels there are, and which tasks each is for.

const PANELS = [
  { id: "classify", tasks: ["classification"], load: () => import("./panels/classify.js") },
  { id: "detect", tasks: ["detection"], load: () => import("./panels/detect.js") },
  { id: "generate", tasks: ["decoder", "encoder", "autoencoder"], load: () => import("./panels/generate.js") },
  { id: "read", tasks: ["text"], load: () => import("./panels/read.js") },
  { id: "numbers", tasks: ["tabular"], load: () => import("./panels/numbers.js") },
  { id: "models", tasks: null, load: () => import("./panels/models.js") },
  { id: "status", tasks: null, load: () => import("./panels/status.js") },
];
const OTHERS = [
  { id: "card", tasks: null, load: () => import("./panels/card.js") },
  { id: "learn", tasks: null, load: () => import("./learn/page.js") },
];

/** The panels for what is served, in their order. */
export function available(models) {
  const tasks = new Set(models.map(({ task }) => task));
  return PANELS.filter((panel) => !panel.tasks || panel.tasks.some((task) => tasks.has(task)));
}

export const panelOf = (id) => [...PANELS, ...OTHERS].find((panel) => panel.id === id);
