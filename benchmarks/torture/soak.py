"""Good traffic on all routes and attacks at random, for long: does memory stay flat?"""

import asyncio
import base64
import contextlib
import json
import random
import statistics
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.servers import Running
from benchmarks.torture import payloads, strike
from benchmarks.torture.catalogue import ATTACKS
from benchmarks.torture.strike import GRACE_SECONDS, Report, Strike
from benchmarks.torture.trial import Watch, lives, received, started
from benchmarks.torture.wire import Answer, Connection, head
from service.tasks.samples import SEVEN, SMEAR

_SAMPLE_SECONDS = 5.0
_ATTACK_SECONDS = 5.0
_PAUSE_SECONDS = 2.0
_CLIENTS = 4
# The most that the last third's memory may lie from the middle third's.
_FLAT = 0.05
# Those that take minutes, whatever time they are given.
_LEFT_OUT = ("calm", "loading", "swaps", "rejected")


@dataclass(frozen=True, slots=True)
class _Sample:
    minute: float
    resident_mb: float
    files: int
    threads: int


async def good_traffic(traffic: Strike) -> None:
    """A few clients that each ask any route for something ordinary, one request after the other."""
    requests = await _good_requests(traffic.port)
    chance = random.Random(0)
    await traffic.begin()

    async def one() -> None:
        await traffic.ask(chance.choice(requests))
        await asyncio.sleep(chance.uniform(0, 0.2))

    await traffic.again(_CLIENTS, one)


async def _good_requests(port: int) -> list[bytes]:
    async def get(path: str) -> Answer:
        connection = await Connection.open(port)
        try:
            return await connection.ask(head(path, method="GET"), keep=True)
        finally:
            connection.close()

    columns = json.loads((await get("/v1/models/tabular")).body)["manifest"]["columns"]
    row = {column["name"]: column["mean"] for column in columns}
    seven, smear = base64.b64decode(SEVEN), base64.b64decode(SMEAR)
    cat = payloads.CAT_JPEG
    table = ",".join(f'"{name}"' for name in row) + "\n" + ",".join(map(str, row.values())) + "\n"
    posts = [
        ("/v1/predict", "image/jpeg", cat),
        ("/v1/predict?model=classifier-transfer", payloads.FORM, payloads.form([cat] * 4)),
        ("/v1/predict", "application/json", payloads.images_json([cat] * 8)),
        ("/v1/detect", "image/jpeg", smear),
        ("/v1/detect", payloads.FORM, payloads.form(payloads.photographs(2))),
        ("/v1/encode", "image/png", seven),
        ("/v1/reconstruct?render=true", "image/png", seven),
        ("/v1/decode", "application/json", json.dumps({"latents": [[0.1] * 32] * 3}).encode()),
        ("/v1/classify-text", "application/json", payloads.texts_json(3, 200)),
        ("/v1/classify-text?explain=true", "application/json", payloads.texts_json(1, 20)),
        ("/v1/predict-tabular", "application/json", json.dumps({"rows": [row] * 10}).encode()),
        ("/v1/predict-tabular", "text/csv", table.encode()),
        *(
            ("/v1/generate", "application/json", json.dumps({"count": 100, "format": kind}).encode())
            for kind in ("grid", "npz", "zip", "json")
        ),
    ]
    paths = ("/v1/models", "/v1/models/detector", "/healthz/ready", "/metrics", "/openapi.json")
    return [head(path, len(body), media_type) + body for path, media_type, body in posts] + [
        head(path, method="GET") for path in paths
    ]


class _Sampler(threading.Thread):
    """Looks at the server every few seconds until told to stop."""

    def __init__(self, process: psutil.Process) -> None:
        super().__init__(daemon=True)
        self.samples: list[_Sample] = []
        self.over = threading.Event()
        self._process = process

    def run(self) -> None:
        begun = time.perf_counter()
        with contextlib.suppress(psutil.Error):
            while not self.over.wait(_SAMPLE_SECONDS):
                with self._process.oneshot():
                    resident = self._process.memory_info().rss / 1e6
                    files, threads = self._process.num_fds(), self._process.num_threads()
                self.samples.append(_Sample((time.perf_counter() - begun) / 60, resident, files, threads))


def soak(running: Running, models: Path, seconds: float) -> bool:
    """Prints samples of the server; whether its memory is flat."""
    chance = random.Random()
    attacks = [attack for attack in ATTACKS.values() if attack.name not in _LEFT_OUT]
    end = time.perf_counter() + seconds
    pid = running.process.pid
    sampler = _Sampler(running.process)
    with started(strike.process, good_traffic, running.port, pid, models, seconds) as (_, traffic):
        if received(traffic, GRACE_SECONDS) == "ready":
            traffic.send("go")
        with Watch(running.process) as watch:
            sampler.start()
            while (left := end - time.perf_counter()) > 0 and lives(running):
                attack = chance.choice(attacks)
                length = min(_ATTACK_SECONDS, left)
                print(f"{(seconds - left) / 60:5.1f} min {attack.name}", flush=True)
                with started(strike.process, attack.run, running.port, pid, models, length) as (_, attacker):
                    if received(attacker, GRACE_SECONDS) == "ready":
                        attacker.send("go")
                        received(attacker, length + 2 * GRACE_SECONDS)
                time.sleep(_PAUSE_SECONDS)
            report = received(traffic, 2 * GRACE_SECONDS)
    sampler.over.set()
    sampler.join()
    print(f"{'minute':>7} {'MB':>7} {'files':>6} {'threads':>8}")
    for sample in sampler.samples:
        print(f"{sample.minute:7.1f} {sample.resident_mb:7.0f} {sample.files:6} {sample.threads:8}")
    answers = dict(report.answers) if isinstance(report, Report) else {}
    print(f"good traffic was answered {answers}; peak memory {watch.peak_mb:.0f} MB")
    if not lives(running):
        print("FAIL: the server was killed for its memory" if watch.killed else "FAIL: the server died")
        return False
    return _flat([sample.resident_mb for sample in sampler.samples])


def _flat(resident: list[float]) -> bool:
    third = len(resident) // 3
    if not third:
        print("FAIL: too short to tell whether memory is flat")
        return False
    middle, last = statistics.median(resident[third : 2 * third]), statistics.median(resident[2 * third :])
    flat = abs(last - middle) <= _FLAT * middle
    print(f"{'ok' if flat else 'FAIL'}: median memory {middle:.0f} MB in the middle third, {last:.0f} MB in the last")
    return flat
