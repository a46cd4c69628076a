// Which sections of the course have been read to the end.

import { lasting } from "../storage.js";

const STORED = "quartet.learn";

const read = () => new Set((lasting.get(STORED) ?? "").split(" "));

export const isRead = (name) => read().has(name);

export const markRead = (name) => lasting.set(STORED, [...read().add(name)].filter(Boolean).join(" "));
