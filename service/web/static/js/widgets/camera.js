// A photograph from the computer's or the phone's camera.

import { h, put } from "../dom.js";
import { t } from "../i18n.js";

/** A picture as a JPEG file; null where none was taken. */
export async function photograph() {
  const video = h("video", { autoplay: true, playsinline: true, ".muted": true, "aria-label": t("camera.view") });
  const said = h("p", { role: "status" }, t("camera.asking"));
  const take = h("button", { type: "button", class: "primary", disabled: true }, t("camera.take"));
  const close = h("button", { type: "button", onclick: () => dialog.close() }, t("camera.close"));
  const dialog = h(
    "dialog",
    { "aria-label": t("picker.camera") },
    h("div", { class: "stack" }, video, said, h("div", { class: "row" }, take, close)),
  );
  document.body.append(dialog);
  dialog.showModal();
  const closed = new Promise((resolve) => dialog.addEventListener("close", () => resolve(null), { once: true }));
  let stream = null;
  try {
    stream = await openCamera({});
    video.srcObject = stream;
    await video.play();
    put(said);
    take.disabled = false;
    const taken = new Promise((resolve) =>
      take.addEventListener("click", () => resolve(frameOf(video)), { once: true }),
    );
    return await Promise.race([taken, closed]);
  } catch {
    put(said, t("camera.refused"));
    return await closed;
  } finally {
    stream?.getTracks().forEach((track) => track.stop());
    dialog.remove();
  }
}

/** The camera's stream; the one that looks away from the user, where there are two. */
export function openCamera(wanted) {
  if (!navigator.mediaDevices) return Promise.reject(new Error("cameras need https, or localhost"));
  return navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment", ...wanted }, audio: false });
}

async function frameOf(video) {
  const canvas = new OffscreenCanvas(video.videoWidth, video.videoHeight);
  canvas.getContext("2d").drawImage(video, 0, 0);
  const data = await canvas.convertToBlob({ type: "image/jpeg", quality: 0.92 });
  return new File([data], "photograph.jpg", { type: "image/jpeg" });
}
