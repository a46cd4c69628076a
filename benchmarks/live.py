"""Live detection on the page compared with a plain client that sends the same frames to the same route.

A real browser shows the page with a camera that gives forty frames a second, more than webcams do: photographs of the
detector's golden file that drift, so that no frame is like another. The plain client sends frames of that camera, which
the browser has encoded in the same size and quality, one after the other over one connection, while the browser is
closed. Rounds are interleaved.

The browser draws in software and shares the machine's cores with the server. So there is a second comparison, in which
the server has one half of the cores and whoever asks it the other, as where they are on different machines.
"""

import base64
import contextlib
import http.client
import os
import shutil
import statistics
import subprocess
import tempfile
import time
import urllib.request
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from PIL import Image
from playwright.sync_api import Page, sync_playwright
from rich.table import Table

from benchmarks import options
from benchmarks.results import Recorder
from benchmarks.servers import Running, service
from service.inference.manifest import GOLDEN

_SIZE = (640, 480)
_RATE = 40
_FRAMES = 90
_SETTLE_SECONDS = 2.0


def main() -> None:
    """Runs the comparisons and prints them."""
    arguments = options.parse("benchmarks.live", __doc__, rounds=3)
    console = Recorder()
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        raise SystemExit("error: there is no Chromium: install it (Debian: apt install chromium)")
    images = np.load(options.newest(arguments.models, "detector") / GOLDEN)["images"]
    cores = sorted(os.sched_getaffinity(0))
    halves = cores[: len(cores) // 2], cores[len(cores) // 2 :]
    table = Table(title=f"live detection, medians of {arguments.rounds} rounds of {arguments.seconds:g} s")
    for column in (
        "cores",
        "plain client, requests/s",
        "page, frames/s",
        "page / plain",
        "browser, ms CPU a frame",
        "the page says",
    ):
        table.add_column(column, justify="right")
    with tempfile.TemporaryDirectory() as folder:
        camera = Path(folder) / "camera.y4m"
        _write_camera(camera, images)
        for name, of_server, of_client in (("shared", cores, cores), ("apart", *halves)):
            os.sched_setaffinity(0, of_server)
            with service(arguments.models) as running:
                os.sched_setaffinity(0, of_client)
                plain, live, cpu, said = _compare(running, chromium, camera, arguments)
            table.add_row(name, f"{plain:.1f}", f"{live:.1f}", f"{live / plain:.0%}", f"{1000 * cpu:.1f}", said)
    console.print(table)
    console.write(arguments.json, "benchmarks.live")


def _compare(server: Running, chromium: str, camera: Path, arguments: Namespace) -> tuple[float, float, float, str]:
    """Requests a second of the plain client; frames a second of the page, CPU seconds that each of them takes its
    browser, and what the page says of them.
    """
    plain, live, cpu, said = [], [], [], ""
    port = server.port
    for _ in range(arguments.rounds):
        with _detecting(chromium, camera, f"http://127.0.0.1:{port}") as page:
            before, busy, started = _answered(port), _cpu_seconds(server), time.perf_counter()
            time.sleep(arguments.seconds)
            frames = _answered(port) - before
            live.append(frames / (time.perf_counter() - started))
            cpu.append((_cpu_seconds(server) - busy) / frames)
            said = page.said()
        plain.append(_plain_rate(port, page.path, page.bodies, arguments.seconds))
    return statistics.median(plain), statistics.median(live), statistics.median(cpu), said


def _cpu_seconds(server: Running) -> float:
    """What this process's children have used so far, all of them but the server."""
    total = 0.0
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if child.pid != server.process.pid:
                times = child.cpu_times()
                total += times.user + times.system
    return total


def _write_camera(path: Path, images: Any) -> None:
    """A camera's recording (YUV4MPEG2, 4:2:0) that pans over photographs."""
    width, height = _SIZE
    margin = _FRAMES // 2
    large = [
        Image.fromarray(image).resize((width + margin, height + margin), Image.Resampling.BICUBIC) for image in images
    ]
    with path.open("wb") as file:
        file.write(f"YUV4MPEG2 W{width} H{height} F{_RATE}:1 Ip A1:1 C420jpeg\n".encode())
        for index in range(_FRAMES):
            left = index // 2
            frame = large[index * len(large) // _FRAMES].crop((left, left, left + width, left + height))
            luma, *chroma = frame.convert("YCbCr").split()
            half = [plane.resize((width // 2, height // 2), Image.Resampling.BOX) for plane in chroma]
            file.write(b"FRAME\n" + b"".join(plane.tobytes() for plane in (luma, *half)))


class _Detecting:
    """The page while it detects, in a browser that nobody watches: a debugger that is attached would be told of every
    request and answer, which takes time of the browser and of its own.
    """

    def __init__(self, port: int, url: str) -> None:
        self._port = port
        with self._attached() as page:
            page.goto(f"{url}/#/detect")
            page.locator(".overlay rect").first.wait_for()
            confidence = page.get_by_role("region", name="Threshold").locator("output").inner_text()
            #: Where the frames are sent, and some of them.
            self.path = f"/v1/detect?model=detector&confidence={confidence}"
            self.bodies = [base64.b64decode(body) for body in page.evaluate(_ENCODED)]
            page.get_by_role("button", name="Use the camera").click()
            page.get_by_text("frames per second").wait_for()
            page.evaluate(_NOTE)
        time.sleep(_SETTLE_SECONDS)

    @contextmanager
    def _attached(self) -> Iterator[Page]:
        with sync_playwright() as playwright:
            browser = playwright.chromium.connect_over_cdp(f"http://127.0.0.1:{self._port}")
            yield browser.contexts[0].pages[0]
            browser.close()  # the connection alone

    def said(self) -> str:
        """What the page has said last."""
        now = 1000 * time.time()
        with self._attached() as page:
            noted = page.evaluate("noted")
        if noted["hidden"]:
            raise RuntimeError("the browser took the page for hidden, so that it did not draw all frames")
        return str([text for at, text in noted["lines"] if at < now][-1])


@contextmanager
def _detecting(chromium: str, camera: Path, url: str) -> Iterator[_Detecting]:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        options = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--window-size=1280,900",
            "--no-first-run",
            f"--user-data-dir={profile}",
            "--remote-debugging-port=0",
            "--use-fake-ui-for-media-stream",
            "--use-fake-device-for-media-stream",
            f"--use-file-for-fake-video-capture={camera}",
        ]
        process = subprocess.Popen([chromium, *options, "about:blank"], stderr=subprocess.DEVNULL)
        try:
            yield _Detecting(_debugging_port(Path(profile) / "DevToolsActivePort"), url)
        finally:
            process.terminate()
            process.wait()


def _debugging_port(file: Path) -> int:
    """The port that a browser writes into a file when it has begun."""
    for _ in range(300):
        with contextlib.suppress(FileNotFoundError, IndexError):
            return int(file.read_text().splitlines()[0])
        time.sleep(0.1)
    raise RuntimeError("the browser did not start within 30 s")


# What the page says of its rate, and when; and whether it was ever hidden.
_NOTE = """() => {
  window.noted = {lines: [], hidden: document.hidden};
  document.addEventListener("visibilitychange", () => noted.hidden = true);
  const line = document.querySelector("[aria-label=Live] p.number");
  new MutationObserver(() => noted.lines.push([Date.now(), line.innerText])).observe(line, {childList: true});
}"""


# Frames of the camera as the page encodes them (service/web/static/js/live/worker.js).
_ENCODED = """async () => {
  const stream = await navigator.mediaDevices.getUserMedia({video: {frameRate: {ideal: 60}}});
  const video = Object.assign(document.createElement("video"), {muted: true, srcObject: stream});
  await video.play();
  const sheet = new OffscreenCanvas(512, 384);
  const bodies = [];
  for (let index = 0; index < 30; index++) {
    await new Promise((resolve) => video.requestVideoFrameCallback(resolve));
    sheet.getContext("2d").drawImage(video, 0, 0, 512, 384);
    const data = await sheet.convertToBlob({type: "image/jpeg", quality: 0.8});
    const bytes = new Uint8Array(await data.arrayBuffer());
    bodies.push(btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join("")));
  }
  stream.getTracks().forEach((track) => track.stop());
  return bodies;
}"""


def _answered(port: int) -> float:
    """Requests that /v1/detect has answered."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as response:
        lines = response.read().decode().splitlines()
    prefix = 'quartet_requests_total{method="POST",route="/v1/detect",status="200"}'
    return sum(float(line.split()[-1]) for line in lines if line.startswith(prefix))


def _plain_rate(port: int, path: str, bodies: list[bytes], seconds: float) -> float:
    """Requests a second of a client that sends one after the other."""
    connection = http.client.HTTPConnection("127.0.0.1", port)

    def ask(index: int) -> None:
        connection.request("POST", path, bodies[index % len(bodies)], {"Content-Type": "image/jpeg"})
        response = connection.getresponse()
        if response.status != 200:
            raise RuntimeError(f"{path} answered {response.status}: {response.read().decode()}")
        response.read()

    for index in range(10):
        ask(index)
    count, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        ask(count)
        count += 1
    return count / (time.perf_counter() - started)


if __name__ == "__main__":
    main()
