"""Replaces two processes behind HAProxy again and again under load, and counts the requests that are lost.

deploy/haproxy/rollout.sh replaces them, with the settings' defaults. Meanwhile clients send pictures over connections
that they keep and over new ones, small ones, which HAProxy can send again, and large ones, which it cannot; others read
generated images slowly. A request is lost if it has no answer, or another one than before the first rollout.

python -m benchmarks.rollout
"""

import argparse
import asyncio
import hashlib
import io
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import numpy as np
from PIL import Image
from rich.table import Table

from benchmarks.fleet import Fleet
from benchmarks.results import Recorder, add_json_option

# Those of the requests.
MODELS = ("classifier", "decoder")
_PAUSE_SECONDS, _READ_SECONDS = 0.02, 0.002
_TIMEOUT_SECONDS = 60.0
_GENERATE = "/v1/generate?model=decoder&format=npz&seed=1&count=2000"
_CLIENTS = {
    "small pictures, kept connections": 3,
    "large pictures, kept connections": 2,
    "small pictures, a connection each": 2,
    "generated images, read slowly": 1,
}


@dataclass(slots=True)
class Kind:
    """What came of the requests of one kind.

    Attributes:
        seconds: of each request that was answered.
        lost: what happened to the others.
    """

    seconds: list[float] = field(default_factory=list)
    lost: Counter[str] = field(default_factory=Counter)


class Load:
    """Clients that go on until `ended` is set.

    Args:
        url: HAProxy's.

    Attributes:
        kinds: what came of the requests, by kind.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._expected: dict[str, object] = {}
        self.ended = threading.Event()
        self.kinds = {name: Kind() for name in _CLIENTS}

    async def run(self) -> None:
        """Runs all clients."""
        small, large = _picture(32), _picture(120)
        requests: dict[str, tuple[bool, Callable[[httpx.AsyncClient], Awaitable[object]]]] = {
            "small pictures, kept connections": (True, lambda client: _predict(client, small)),
            "large pictures, kept connections": (True, lambda client: _predict(client, large)),
            "small pictures, a connection each": (False, lambda client: _predict(client, small)),
            "generated images, read slowly": (True, _generate),
        }
        async with asyncio.TaskGroup() as group:
            for name, number in _CLIENTS.items():
                for _ in range(number):
                    group.create_task(self._client(name, *requests[name]))

    async def _client(self, name: str, keep: bool, send: Callable[[httpx.AsyncClient], Awaitable[object]]) -> None:
        kind = self.kinds[name]
        limits = httpx.Limits(max_keepalive_connections=None if keep else 0)
        async with httpx.AsyncClient(
            base_url=self._url, limits=limits, timeout=_TIMEOUT_SECONDS, trust_env=False
        ) as client:
            while not self.ended.is_set():
                started = time.perf_counter()
                try:
                    answer = await send(client)
                except httpx.HTTPError as error:
                    kind.lost[f"{type(error).__name__}: {error}"] += 1
                else:
                    kind.seconds.append(time.perf_counter() - started)
                    if answer != self._expected.setdefault(name, answer):
                        kind.lost["another answer than before"] += 1
                await asyncio.sleep(_PAUSE_SECONDS)


def roll_out(fleet: Fleet, times: int) -> tuple[dict[str, Kind], list[float]]:
    """Replaces all processes of a fleet under load.

    Returns:
        What came of the requests by kind, and the seconds of each rollout.

    Raises:
        CalledProcessError: a rollout failed.
    """
    load = Load(fleet.url)
    clients = threading.Thread(target=lambda: asyncio.run(load.run()))
    fleet.wait_until_up()
    clients.start()
    seconds = []
    try:
        for _ in range(times):
            started = time.perf_counter()
            fleet.roll_out()
            seconds.append(time.perf_counter() - started)
    finally:
        load.ended.set()
        clients.join()
    return load.kinds, seconds


async def _predict(client: httpx.AsyncClient, picture: bytes) -> object:
    response = await client.post("/v1/predict?model=classifier", content=picture)
    response.raise_for_status()
    (result,) = response.json()["results"]
    return result["labels"][0]["label"]  # probabilities may differ in the last digit, as batches do


async def _generate(client: httpx.AsyncClient) -> object:
    digest = hashlib.sha256()
    async with client.stream("POST", _GENERATE) as response:
        response.raise_for_status()
        async for part in response.aiter_bytes(1 << 14):
            digest.update(part)
            await asyncio.sleep(_READ_SECONDS)
    return digest.hexdigest()


def _picture(side: int) -> bytes:
    file = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def main() -> int:
    """Rolls out as often as the command line says; 1 if a request was lost."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rollout", description=__doc__)
    parser.add_argument("--models", type=Path, default=Path("models"))
    parser.add_argument("--rollouts", type=int, default=20)
    add_json_option(parser)
    arguments = parser.parse_args()
    console = Recorder()
    with tempfile.TemporaryDirectory() as name:
        models = Path(name) / "models"
        models.mkdir()
        for model in MODELS:
            (models / model).symlink_to((arguments.models / model).absolute())
        with Fleet(models, Path(name), {"variant": "reference"}) as fleet:
            kinds, seconds = roll_out(fleet, arguments.rollouts)
            replaced = fleet.replaced
    table = Table(title=f"{len(seconds)} rollouts, {replaced} processes replaced")
    for column in ("requests", "answered", "lost", "median, ms", "longest, ms"):
        table.add_column(column, justify="left" if column == "requests" else "right")
    for kind, came in kinds.items():
        times = [1000 * each for each in came.seconds] or [0.0]
        figures = (len(came.seconds), came.lost.total(), f"{statistics.median(times):.0f}", f"{max(times):.0f}")
        table.add_row(kind, *map(str, figures))
    console.print(table)
    console.print(f"a rollout takes {statistics.median(seconds):.1f} s (median)")
    for kind, came in kinds.items():
        for what, count in came.lost.items():
            console.print(f"LOST: {kind}: {count} x {what}")
    console.write(arguments.json, "benchmarks.rollout", {"rollout_seconds": seconds})
    return 1 if any(came.lost for came in kinds.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
