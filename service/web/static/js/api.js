// Requests to the server that the page came from, below whatever path a proxy has put it.

import { hasText, language, t } from "./i18n.js";
import { ofTab } from "./storage.js";

/** The server's root; this module lies three levels below it. */
export const ROOT = new URL("../../../", import.meta.url);

const KEY = "quartet.key";

/** Tells by a `change` that there is another key, or none any more. */
export const keys = new EventTarget();

/** The key, where one is needed; it is gone with the tab. */
export const key = () => ofTab.get(KEY);

export function setKey(value) {
  if (value) ofTab.set(KEY, value);
  else ofTab.remove(KEY);
  keys.dispatchEvent(new Event("change"));
}

export const address = (path, query = {}) => {
  const url = new URL(path, ROOT);
  for (const [name, value] of Object.entries(query)) {
    if (value !== null && value !== undefined) url.searchParams.set(name, value);
  }
  return url;
};

/** What went wrong: `kind` is offline, key, forbidden, overloaded or problem. */
export class Problem extends Error {
  constructor(kind, { status = 0, slug = "", detail = "", retryAfter = null } = {}) {
    super(detail || kind);
    Object.assign(this, { kind, status, slug, detail, retryAfter, keyed: Boolean(key()) });
  }

  /** A sentence in the page's language. */
  get sentence() {
    if (this.kind === "offline") return t("problem.offline");
    if (this.kind === "key") return t(this.keyed ? "problem.refused" : "problem.key");
    if (this.kind === "forbidden" && (language !== "en" || !this.detail)) return t("problem.forbidden");
    if (this.kind === "overloaded") {
      const known = this.slug === "rate-limited" ? "problem.limited" : "problem.overloaded";
      return t(known, { seconds: this.retryAfter ?? 1 });
    }
    const known = `problem.${this.slug}`;
    if (language !== "en" && hasText(known)) return t(known);
    return this.detail || t("problem.unknown", { status: this.status });
  }
}

/**
 * The server's answer, the seconds that it took, and what was sent, as snippets show it; throws a `Problem`.
 *
 * A body that is not text is not in `sent`.
 */
export async function call(path, { method = "GET", query = {}, body, headers = {}, signal } = {}) {
  const started = performance.now();
  const authorised = key() ? { ...headers, Authorization: `Bearer ${key()}` } : headers;
  let response;
  try {
    response = await fetch(address(path, query), { method, body, headers: authorised, signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem("offline");
  }
  if (!response.ok) throw await problemOf(response);
  const sent = { path, query, media: headers["Content-Type"], body: typeof body === "string" ? body : undefined };
  return { response, seconds: (performance.now() - started) / 1000, sent };
}

export async function json(path, options) {
  return (await call(path, options)).response.json();
}

export async function blob(path, options) {
  return (await call(path, options)).response.blob();
}

/** What kind of problem a status is; 0 stands for no answer. */
export function kindOf(status) {
  if (status === 0) return "offline";
  if (status === 401) return "key";
  if (status === 403) return "forbidden";
  return status === 429 || status === 503 ? "overloaded" : "problem";
}

async function problemOf(response) {
  const document = await response.json().catch(() => ({}));
  const said = {
    status: response.status,
    slug: document.code ?? "",
    detail: document.detail ?? "",
    retryAfter: Number(response.headers.get("retry-after")) || null,
  };
  // A model that is out of order does not have too much work.
  return new Problem(said.slug === "model-broken" ? "problem" : kindOf(response.status), said);
}

/** Milliseconds by step, from a Server-Timing header. */
export function timingOf({ response, seconds }) {
  const steps = {};
  for (const [, name, milliseconds] of (response.headers.get("server-timing") ?? "").matchAll(/(\w+);dur=([\d.]+)/g)) {
    steps[name] = Number(milliseconds);
  }
  const inside = Object.values(steps).reduce((sum, each) => sum + each, 0);
  return { steps, total: 1000 * seconds, rest: Math.max(0, 1000 * seconds - inside) };
}
