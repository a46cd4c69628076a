// Encodes frames at the model's size, sends them one at a time, and draws each with what was found in it.
//
// While a frame is in flight the next one is drawn and encoded, so that the server never waits for the page; it is taken
// as late as that allows, so that it is no older than it must be.

import { span } from "./span.js";

const QUALITY = 0.8;
const REPORT_MS = 500;
const FONT = 11; // pixels

let options = null;
let screen = null;
let sheets = []; // one for the frame that is drawn with its boxes, one for that in flight, one for the next
let waiting = null; // the encoded frame that is next
let inFlight = false;
let wantedAt = performance.now();
const encoding = span(); // from asking for a frame until it is encoded
const answering = span(); // from sending a frame until it is answered
const seen = { since: performance.now(), frames: 0, delay: 0 };

onmessage = ({ data }) => {
  if (data.kind === "begin") begin(data);
  else encode(data);
};

function begin(data) {
  options = data;
  screen = data.screen.getContext("2d", { alpha: false });
  sheets = [0, 1, 2].map(() => {
    const canvas = new OffscreenCanvas(data.width, data.height);
    // Every frame is read back to be encoded.
    return { canvas, context: canvas.getContext("2d", { alpha: false, willReadFrequently: true }) };
  });
}

async function encode({ frame, at, confidence }) {
  const sheet = sheets.shift();
  sheets.push(sheet);
  sheet.context.drawImage(frame, 0, 0, options.width, options.height);
  frame.close();
  const data = await sheet.canvas.convertToBlob({ type: "image/jpeg", quality: QUALITY });
  // As bytes it goes out with the request; a blob would be asked for by the browser's other processes first.
  waiting = { canvas: sheet.canvas, at, confidence, body: await data.arrayBuffer() };
  encoding.observe(performance.now() - wantedAt);
  send();
}

async function send() {
  if (inFlight || !waiting) return;
  const { canvas, at, confidence, body } = waiting;
  waiting = null;
  inFlight = true;
  const sentAt = performance.now();
  setTimeout(want, Math.max(0, answering.least - encoding.most));
  try {
    const response = await fetch(`${options.url}&confidence=${confidence}`, {
      method: "POST",
      headers: options.headers,
      body,
    });
    if (!response.ok) {
      await refused(response);
      return;
    }
    answering.observe(performance.now() - sentAt);
    inFlight = false;
    send(); // before this answer is looked at, for the server has nothing to do
    const { boxes } = (await response.json()).results[0];
    draw(canvas, boxes);
    report(at, boxes.length);
  } catch {
    postMessage({ kind: "problem", status: 0 });
  }
}

function want() {
  wantedAt = performance.now();
  postMessage({ kind: "want" });
}

async function refused(response) {
  const document = await response.json().catch(() => ({})); // a proxy's page
  postMessage({
    kind: "problem",
    status: response.status,
    slug: document.type?.split(":").pop(),
    detail: document.detail,
    retryAfter: Number(response.headers.get("retry-after")) || null,
  });
}

function draw(canvas, boxes) {
  screen.drawImage(canvas, 0, 0);
  screen.lineWidth = 2;
  screen.font = `600 ${FONT}px system-ui, sans-serif`;
  for (const [index, colour] of options.colours.entries()) {
    screen.strokeStyle = colour;
    screen.beginPath();
    for (const box of boxes) {
      if (box.index % options.colours.length === index) {
        screen.rect(box.x_min, box.y_min, box.x_max - box.x_min, box.y_max - box.y_min);
      }
    }
    screen.stroke();
  }
  for (const box of boxes) label(box);
}

/** The label of a box above it, or inside it at the upper edge of the picture. */
function label({ index, label: text, x_min: left, y_min: top }) {
  const height = FONT + 4;
  const at = top < height ? top : top - height;
  screen.fillStyle = options.colours[index % options.colours.length];
  screen.fillRect(left - 1, at, screen.measureText(text).width + 6, height);
  screen.fillStyle = "#10131c";
  screen.fillText(text, left + 2, at + FONT);
}

function report(at, found) {
  const now = performance.now();
  seen.frames += 1;
  seen.delay += now + performance.timeOrigin - at;
  if (now - seen.since < REPORT_MS) return;
  const rate = (1000 * seen.frames) / (now - seen.since);
  postMessage({ kind: "rate", rate, delay: seen.delay / seen.frames, found });
  Object.assign(seen, { since: now, frames: 0, delay: 0 });
}
