// Status: the last hour of the server in charts, and what each model has done.

import { json } from "../api.js";
import { h, note, put, whenChanged } from "../dom.js";
import { brief, moment, number, t } from "../i18n.js";
import { poll } from "../poll.js";
import { choice } from "../widgets/choice.js";
import { createStatus } from "../widgets/status.js";
import { timeline } from "../widgets/timeline.js";

const COMMAND = "quartet keys add NAME --scope infer --scope metrics";
const MOST_PROBLEMS = 6;
const ROW_SECONDS = 300; // of the table

const plain = (value) => brief(value, 3);
const duration = (seconds) => (seconds < 1 ? `${brief(1000 * seconds, 3)} ms` : `${brief(seconds, 3)} s`);
const bytes = (value) => (value < 1e9 ? `${brief(value / 1e6, 3)} MB` : `${brief(value / 1e9, 3)} GB`);
const named = (series) => Object.entries(series).map(([name, values]) => ({ name: t(`hour.${name}`), values }));

// What each chart shows of an answer.
const OF_SERVER = {
  traffic: [plain, ({ requests, errors }) => named({ requests, errors })],
  latency: [duration, ({ latency }) => named(latency)],
  problems: [plain, ({ problems }) => busiest(problems)],
  lag: [duration, (hour) => named({ p99: hour.event_loop_lag })],
  memory: [bytes, ({ memory: { resident } }) => named({ resident })],
  available: [bytes, ({ memory: { available } }) => named({ free: available })],
  gpu: [bytes, ({ memory: { gpu_free: free } }) => (free.some((each) => each !== null) ? named({ free }) : null)],
};
const OF_MODELS = {
  queue: [plain, ({ queue: { waiting } }) => named({ waiting })],
  wait: [duration, ({ queue: { wait } }) => named(wait)],
  batches: [plain, ({ queue }) => named({ size: queue.batch_size })],
  duration: [duration, ({ queue: { batch } }) => named(batch)],
  work: [plain, ({ queue: { items } }) => named({ items })],
  dropped: [plain, ({ queue: { dropped } }) => named({ "left-out": dropped })],
};

export function render(root, { settings, signal }) {
  const status = createStatus();
  const server = charts(OF_SERVER);
  const models = charts(OF_MODELS);
  const chosen = h("div");
  const modelTable = createTable(t("nav.models"));
  const periodTable = createTable(t("hour.table"));
  const periods = h(
    "details",
    {},
    h("summary", {}, t("hour.table")),
    note(t("hour.periods")),
    periodTable.element,
  );
  const figures = h(
    "div",
    { hidden: true },
    h("h2", {}, t("hour.server")),
    server.element,
    h("div", { class: "headline" }, h("h2", {}, t("nav.models")), chosen),
    models.element,
    modelTable.element,
    periods,
  );
  put(root, h("h1", {}, t("nav.status")), h("p", { class: "quiet" }, t("hour.lead")), status.element, figures);
  let hour = null;
  periods.addEventListener("toggle", writePeriods);
  const showChoice = whenChanged(({ names, model }) =>
    put(chosen, choice(t("frame.model"), [["", t("hour.all")], ...names.map((name) => [name, name])], model, choose)),
  );
  const soon = poll(root, refresh, { seconds: 10, signal, onerror: complain });

  function choose(model) {
    settings.set({ model });
    soon();
  }

  async function refresh() {
    const model = settings.get("model");
    let found;
    try {
      found = await json("v1/status", { query: { model }, signal });
    } catch (error) {
      if (error.slug !== "unknown-model") throw error;
      settings.set({ model: null }); // the address is of another server, or of another time
      found = await json("v1/status", { signal });
    }
    hour = found;
    figures.hidden = !hour.times.length;
    if (figures.hidden) {
      status.say(t("hour.soon"));
      return;
    }
    status.clear();
    server.draw(hour);
    models.draw(hour);
    showChoice({ names: hour.models.map(({ name }) => name).sort(), model: hour.model ?? "" });
    modelTable.show(...ofModels(hour.models));
    writePeriods();
  }

  function complain(error) {
    status.show(error, soon);
    if (error.kind === "key" || error.kind === "forbidden") {
      status.element.prepend(h("p", {}, t("hour.key")), h("p", {}, h("code", {}, COMMAND)));
    }
  }

  function writePeriods() {
    if (periods.open && hour?.times.length) periodTable.show(...ofPeriods(hour));
  }
}

function charts(described) {
  const element = h("div", { class: "timelines" });
  const all = Object.entries(described).map(([id, [write, lines]]) => {
    const chart = timeline(t(`hour.${id}`), write);
    element.append(chart.element);
    return { chart, lines };
  });
  return {
    element,
    draw(hour) {
      for (const { chart, lines } of all) {
        const found = lines(hour);
        chart.element.hidden = !found;
        if (found) chart.draw(hour.times, hour.step, found);
      }
    },
  };
}

/** The problems that were most frequent, by their codes. */
function busiest(problems) {
  const sum = (values) => values.reduce((total, each) => total + each, 0);
  return Object.entries(problems)
    .map(([name, values]) => ({ name, values, total: sum(values) }))
    .sort((one, other) => other.total - one.total)
    .slice(0, MOST_PROBLEMS);
}

function ofModels(models) {
  const columns = [
    [t("hour.items-run"), ({ items }) => number(items)],
    [t("hour.size"), ({ batch_size: size }) => written(size, plain)],
    [t("hour.wait-p95"), ({ wait_p95: wait }) => written(wait, duration)],
    [t("hour.waiting"), ({ waiting }) => number(waiting)],
    [t("hour.items-dropped"), ({ dropped }) => number(dropped)],
  ];
  const rows = models.map((model) => [model.name, ...columns.map(([, write]) => write(model))]);
  return [[t("frame.model"), ...columns.map(([name]) => name)], rows];
}

/** The whole hour in periods of five minutes, the newest first: means of what is per second, else the highest. */
function ofPeriods({ times, step, requests, errors, latency, problems, event_loop_lag: lag, memory, queue }) {
  const refused = times.map((_, index) => Object.values(problems).reduce((sum, values) => sum + values[index], 0));
  const mean = (values) => values.reduce((sum, each) => sum + each, 0) / values.length;
  const most = (values) => Math.max(...values);
  const columns = [
    [t("hour.traffic"), requests, mean, plain],
    [t("hour.errors"), errors, mean, plain],
    [t("hour.problems"), refused, mean, plain],
    ...Object.entries(latency).map(([name, values]) => [t(`hour.${name}`), values, most, duration]),
    [t("hour.waiting"), queue.waiting, most, plain],
    [t("hour.wait-p95"), queue.wait.p95, most, duration],
    [t("hour.lag"), lag, most, duration],
    [t("hour.memory"), memory.resident, most, bytes],
  ];
  const size = ROW_SECONDS / step;
  const rows = [];
  for (let end = times.length; end > 0; end -= size) {
    const cells = columns.map(([, values, reduce, write]) => {
      const known = values.slice(Math.max(0, end - size), end).filter((each) => each !== null);
      return written(known.length ? reduce(known) : null, write);
    });
    rows.push([moment(times[end - 1]), ...cells]);
  }
  return [[t("hour.until"), ...columns.map(([name]) => name)], rows];
}

const written = (value, write) => (value === null ? "–" : write(value));

/** A table whose rows can change under somebody who scrolls it. */
function createTable(label) {
  const table = h("table");
  const element = h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": label }, table);
  return {
    element,
    show(head, rows) {
      const heading = (name, index) => h("th", { scope: "col", class: index ? "num" : null }, name);
      const row = ([name, ...cells]) =>
        h(
          "tr",
          {},
          h("th", { scope: "row" }, name),
          cells.map((cell) => h("td", { class: "num" }, cell)),
        );
      element.hidden = !rows.length;
      put(table, h("thead", {}, h("tr", {}, head.map(heading))), h("tbody", {}, rows.map(row)));
    },
  };
}
