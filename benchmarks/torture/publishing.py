"""The attacks that publish: version after version of a model, good ones and bad ones."""

import asyncio
import json
import os
import shutil
import signal
import statistics
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.torture.strike import Strike, attack
from benchmarks.torture.wire import Connection, Gone, head
from service.inference.manifest import GOLDEN, MANIFEST, MODEL, sha256
from service.inference.versions import versions_in

_CLASSIFIER = "classifier"
_ROUNDS = 3
# Memory after `_LAST` swaps or refusals may exceed that after `_FIRST` by this share.
_FIRST, _LAST = 20, 200
_MOST_GROWTH = 0.1
# The longest until a version serves or is refused, and how often the server is asked.
_PATIENCE_SECONDS = 30.0
_ASK_SECONDS = 0.02
# From a swap until the memory of the old version is back, and how often memory is looked at then.
_SETTLE_SECONDS = 2.0
_SAMPLES = 5

# The server's list of models.
_Listed = dict[str, Any]
Damage = Callable[[Path], None]


def copy_models(models: Path, into: Path) -> Path:
    """A copy of a models folder in which versions may come and go; its files are links."""
    return Path(shutil.copytree(models.resolve(), into, copy_function=os.symlink))


@attack(seconds=90, beside=("predict-often",), longest_ms=100)
async def loading(strike: Strike) -> None:
    """A new version of each model is loaded, one after another, three times."""
    await strike.begin()
    for _ in range(_ROUNDS):
        for model in sorted(strike.models.iterdir()):
            begun = time.perf_counter()
            await _swap(strike, model)
            await asyncio.sleep(_SETTLE_SECONDS)
            strike.report.phases.append((f"loading {model.name}", begun, time.perf_counter()))


@attack(seconds=300)
async def swaps(strike: Strike) -> None:
    """200 versions of a model, each of which replaces the one before."""
    await strike.begin()
    await _memory_stays(strike, "swaps", lambda _: _swap(strike, strike.models / _CLASSIFIER))


@attack(seconds=300)
async def rejected(strike: Strike) -> None:
    """200 versions with a wrong digest, a broken graph or wrong answers."""
    model = strike.models / _CLASSIFIER
    damages = (wrong_digest, broken_graph, wrong_answers)
    newest = int(versions_in(model)[0])
    await strike.begin()

    async def refuse(number: int) -> None:
        damage = damages[number % len(damages)]
        folder = publish(model, newest + number, damage)
        label = f"{model.name}/{folder.name}"
        listed = await _reload(strike, lambda listed: label in listed["refused"] or _serves(listed, folder))
        strike.require(not _serves(listed, folder), f"a version with a {damage.__name__} is served")
        shutil.rmtree(folder)

    await _memory_stays(strike, "refusals", refuse)


async def _memory_stays(strike: Strike, what: str, once: Callable[[int], Awaitable[None]]) -> None:
    """Does the same again and again; memory at the end must be about what it was early."""
    early = 0.0
    for number in range(1, _LAST + 1):
        await once(number)
        if strike.report.failures:
            return
        if number == _FIRST:
            early = await _settled_mb(strike)
    late = await _settled_mb(strike)
    strike.note(f"{early:.0f} MB after {_FIRST} {what}, {late:.0f} MB after {_LAST}")
    strike.require(late <= (1 + _MOST_GROWTH) * early, f"memory grew by more than {_MOST_GROWTH:.0%}")


async def _settled_mb(strike: Strike) -> float:
    await asyncio.sleep(_SETTLE_SECONDS)
    samples = []
    for _ in range(_SAMPLES):
        samples.append(strike.resident_mb())
        await asyncio.sleep(0.1)
    return statistics.median(samples)


async def _swap(strike: Strike, model: Path) -> None:
    """Publishes a copy of a model's newest version, waits until it serves, and removes the old one."""
    newest = versions_in(model)[0]
    folder = publish(model, int(newest) + 1)
    await _reload(strike, lambda listed: _serves(listed, folder))
    shutil.rmtree(model / newest)


def publish(model: Path, version: int, damage: Damage | None = None) -> Path:
    """Publishes a copy of a model's newest version, damaged or not."""
    incoming = model / "incoming"
    shutil.copytree(model / versions_in(model)[0], incoming, symlinks=True)
    if damage:
        damage(incoming)
    return incoming.rename(model / str(version))


def wrong_digest(folder: Path) -> None:
    """Cuts a byte off the graph."""
    replace(folder / MODEL, (folder / MODEL).read_bytes()[:-1])


def broken_graph(folder: Path) -> None:
    """Gives the graph an operator that is unknown; it needs a convolution."""
    replace(folder / MODEL, (folder / MODEL).read_bytes().replace(b"Conv", b"Cvno"))  # an operator that is unknown
    state_digest(folder, MODEL)


def wrong_answers(folder: Path) -> None:
    """Reverses the golden answers of a classifier."""
    with np.load(folder / GOLDEN) as golden:
        arrays = {name: array[::-1] if array.ndim == 2 else array for name, array in golden.items()}
    (folder / GOLDEN).unlink()
    np.savez(folder / GOLDEN, **arrays)
    state_digest(folder, GOLDEN)


def state_digest(folder: Path, file: str) -> None:
    """Has the manifest state the digest that a file has."""
    manifest = json.loads((folder / MANIFEST).read_bytes())
    manifest["files"][file] = sha256(folder / file)
    replace(folder / MANIFEST, json.dumps(manifest).encode())


def replace(link: Path, content: bytes) -> None:
    """Puts a file in the place of a link, whose target is left as it is."""
    link.unlink()
    link.write_bytes(content)


def _serves(listed: _Listed, folder: Path) -> bool:
    return any((model["name"], model["version"]) == (folder.parent.name, folder.name) for model in listed["models"])


async def _reload(strike: Strike, done: Callable[[_Listed], bool]) -> _Listed:
    """Has the server look for new versions; its list of models when that is done, or after too long a time."""
    os.kill(strike.pid, signal.SIGUSR1)
    end = time.perf_counter() + _PATIENCE_SECONDS
    listed: _Listed = {"models": [], "refused": {}}
    while time.perf_counter() < end and not done(listed):
        await asyncio.sleep(_ASK_SECONDS)
        listed = await _list(strike)
    strike.require(done(listed), f"a version was neither served nor refused within {_PATIENCE_SECONDS:g} s")
    return listed


async def _list(strike: Strike) -> _Listed:
    connection = None
    try:
        connection = await Connection.open(strike.port)
        answer = await connection.ask(head("/v1/models", method="GET"), keep=True)
        listed: _Listed = json.loads(answer.body)
    except (Gone, ValueError):
        return {"models": [], "refused": {}}
    finally:
        if connection:
            connection.close()
    return listed
