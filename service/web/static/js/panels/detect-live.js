// Detection on a camera's or a video's frames: one is in flight, the newest is next, and those between are skipped.

import { Problem, address, key, kindOf } from "../api.js";
import { h, put } from "../dom.js";
import { number, t } from "../i18n.js";
import { openCamera } from "../widgets/camera.js";
import { PALETTE } from "../widgets/palette.js";
import { createStatus } from "../widgets/status.js";

/**
 * @param asked the query that names the model.
 * @param detail gives its manifest.
 * @param threshold gives the confidence that counts now.
 */
export function liveView({ asked, detail, threshold, signal }) {
  const stage = h("div", { class: "stage" });
  const rate = h("p", { class: "number", role: "status" });
  const status = createStatus();
  const stop = h("button", { type: "button", hidden: true, onclick: () => end() }, t("live.stop"));
  const camera = h("button", { type: "button", onclick: () => begin(fromCamera) }, t("live.camera"));
  const file = h("input", { type: "file", accept: "video/*", class: "visually-hidden", "aria-label": t("live.file") });
  file.addEventListener("change", () => file.files[0] && begin(() => fromFile(file.files[0])));
  const choose = h("label", { class: "button" }, t("live.file"), file);
  let end = () => {};
  signal.addEventListener("abort", () => end());

  async function begin(open) {
    end();
    let wanted = true;
    end = () => {
      wanted = false;
    };
    put(rate);
    status.busy();
    try {
      const { manifest } = await detail();
      const source = await open();
      if (!wanted) {
        source.close();
        return;
      }
      status.clear();
      end = run(source, manifest, () => begin(open));
      stop.hidden = false;
    } catch (error) {
      if (!wanted) return;
      if (error instanceof Problem) status.show(error, () => begin(open));
      else status.say(t(open === fromCamera ? "camera.refused" : "live.unreadable"));
    }
  }

  /** Feeds the worker until it is stopped; returns what stops it. `again` begins anew after a failure. */
  function run({ video, close }, manifest, again) {
    const scale = Math.min(manifest.image.width / video.videoWidth, manifest.image.height / video.videoHeight);
    const width = Math.round(video.videoWidth * scale);
    const height = Math.round(video.videoHeight * scale);
    const canvas = h("canvas", { width, height, "aria-label": t("live.view"), role: "img" });
    put(stage, canvas);
    const worker = new Worker(new URL("../live/worker.js", import.meta.url), { type: "module" });
    const screen = canvas.transferControlToOffscreen();
    const headers = { "Content-Type": "image/jpeg", ...(key() ? { Authorization: `Bearer ${key()}` } : {}) };
    worker.postMessage(
      {
        kind: "begin",
        screen,
        url: String(address("v1/detect", asked)),
        headers,
        colours: PALETTE,
        width,
        height,
      },
      [screen],
    );
    let running = true;
    let sent = null; // the time of the frame that was sent last
    worker.onmessage = ({ data }) => {
      if (data.kind === "want") next();
      else if (data.kind === "rate") {
        put(rate, t("live.rate", { rate: number(data.rate, 1), delay: number(data.delay, 0), found: data.found }));
      } else {
        finish();
        status.show(new Problem(kindOf(data.status), data), again);
      }
    };
    worker.onerror = () => {
      finish();
      status.say(t("problem.page"));
    };

    async function next() {
      if (!running) return;
      if (video.readyState < video.HAVE_CURRENT_DATA) {
        awaitFrame(); // a file has none yet when it has just been opened, or begins anew
        return;
      }
      const at = performance.now() + performance.timeOrigin;
      // The worker scales it while it draws it; a bitmap would be converted and copied once more.
      const frame = window.VideoFrame ? new VideoFrame(video) : await createImageBitmap(video);
      const time = frame.timestamp ?? video.currentTime;
      if (running && time !== sent) {
        sent = time;
        worker.postMessage({ kind: "frame", frame, at, confidence: threshold() }, [frame]);
        return;
      }
      frame.close();
      awaitFrame(); // it was sent already and would say nothing new
    }

    function awaitFrame() {
      if (video.requestVideoFrameCallback) video.requestVideoFrameCallback(next);
      else requestAnimationFrame(next);
    }

    function finish() {
      running = false;
      worker.terminate();
      close();
      stop.hidden = true;
      end = () => {};
    }

    next();
    return finish;
  }

  return h(
    "div",
    { class: "stack" },
    h("p", { class: "quiet" }, t("live.lead")),
    h("div", { class: "row" }, camera, choose, stop),
    status.element,
    stage,
    rate,
  );
}

async function fromCamera() {
  const stream = await openCamera({ frameRate: { ideal: 60 } });
  const video = await playing({ srcObject: stream });
  return { video, close: () => stream.getTracks().forEach((track) => track.stop()) };
}

async function fromFile(file) {
  const url = URL.createObjectURL(file);
  const video = await playing({ src: url, loop: true });
  return {
    video,
    close() {
      video.pause();
      URL.revokeObjectURL(url);
    },
  };
}

/** A video that plays; it is not shown, since the frames that were answered are. */
async function playing(source) {
  const video = Object.assign(document.createElement("video"), { muted: true, playsInline: true }, source);
  await video.play();
  return video;
}
