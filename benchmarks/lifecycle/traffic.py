"""Clients on all routes, each of whose answers is checked: it is whole, and of a version that the policy permitted."""

import asyncio
import base64
import io
import json
import random
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.lifecycle.ledger import Ledger
from benchmarks.torture import payloads
from benchmarks.torture.wire import Answer, Connection, Gone, head
from service.inference.manifest import MANIFEST
from service.tasks.samples import SEVEN, SMEAR

CLIENTS = 32
# A client waits up to this long between an answer and its next request.
_PAUSE_SECONDS = 1.0
# One that waits longer for an answer counts it as lost.
_PATIENCE_SECONDS = 60.0
# What went wrong is told in full for so many requests.
_MOST_TOLD = 20
_GENERATED = 100
_JSON = "application/json"

# Whether a body is whole.
Check = Callable[[bytes], bool]


@dataclass(frozen=True, slots=True)
class Kind:
    """A request that clients send.

    Attributes:
        name: for reports.
        model: that answers.
        data: head and body.
        whole: whether the body of an answer is whole.
        weight: how often it is sent.
    """

    name: str
    model: str
    data: bytes
    whole: Check
    weight: float


@dataclass(slots=True)
class Met:
    """What clients met.

    Attributes:
        seconds: that each answer took, with the kind of its request and the time at which that was sent.
        wrong: requests that were not answered as they have to be, by what came.
        told: some of them in words.
        excused: failures of a candidate that is meant to fail, by the model.
        answers: by label and status.
    """

    seconds: list[tuple[str, float, float]] = field(default_factory=list)
    wrong: Counter[str] = field(default_factory=Counter)
    told: list[str] = field(default_factory=list)
    excused: Counter[str] = field(default_factory=Counter)
    answers: Counter[tuple[str, str]] = field(default_factory=Counter)

    def percentiles(self, begin: float, end: float, kinds: str = "") -> list[float]:
        """p50, p99 and the longest, in milliseconds, of requests that began in a span of time; of some kinds or all."""
        found = [seconds for kind, began, seconds in self.seconds if begin <= began < end and kinds in ("", kind)]
        return [1000 * float(value) for value in np.percentile(found, (50, 99, 100))] if found else [0.0] * 3


class Traffic:
    """Clients with a connection each, which they keep.

    Args:
        port: of the server.
        kinds: of requests.
        ledger: says which versions may answer.
        clients: how many.
        pause: the longest time between an answer and the next request, in seconds.

    Attributes:
        met: what they met.
        failing: models of which a candidate is meant to fail, so that a status of 500 is excused.
    """

    def __init__(
        self,
        port: int,
        kinds: Sequence[Kind],
        ledger: Ledger,
        clients: int = CLIENTS,
        pause: float = _PAUSE_SECONDS,
    ) -> None:
        self.met = Met()
        self.failing: set[str] = set()
        self._port = port
        self._kinds = kinds
        self._weights = [kind.weight for kind in kinds]
        self._ledger = ledger
        self._clients = clients
        self._pause = pause
        self._over = asyncio.Event()

    async def run(self) -> None:
        """Sends requests until `end`."""
        await asyncio.gather(*(self._client(random.Random(number)) for number in range(self._clients)))

    def end(self) -> None:
        """Lets each client end with the answer that it waits for."""
        self._over.set()

    async def _client(self, chance: random.Random) -> None:
        connection: Connection | None = None
        while not self._over.is_set():
            (kind,) = chance.choices(self._kinds, self._weights)
            began = time.perf_counter()
            excused = kind.model in self.failing
            try:
                if connection is None:
                    connection = await Connection.open(self._port)
                async with asyncio.timeout(_PATIENCE_SECONDS):
                    answer = await connection.ask(kind.data, keep=True)
            except (Gone, TimeoutError) as error:
                self._wrong("cut" if isinstance(error, Gone) else "lost", f"{kind.name}: {error!r}")
                if connection:
                    connection.close()
                connection = None
                continue
            ended = time.perf_counter()
            self.met.seconds.append((kind.name, began, ended - began))
            self._check(kind, answer, began, ended, excused=excused or kind.model in self.failing)
            if answer.headers.get("connection") == "close":
                connection.close()
                connection = None
            await asyncio.sleep(chance.uniform(0, self._pause))
        if connection:
            connection.close()

    def _check(self, kind: Kind, answer: Answer, began: float, ended: float, *, excused: bool) -> None:
        model, _, version = answer.headers.get("quartet-model", "").partition(";")[0].partition("/")
        self.met.answers[f"{model or kind.model}/{version}", str(answer.status)] += 1
        if answer.status != 200:
            if excused and answer.status == 500:
                self.met.excused[kind.model] += 1
            else:
                self._wrong(str(answer.status), f"{kind.name}: {answer.body[:300]!r}")
        elif not kind.whole(answer.body):
            self._wrong("cut", f"{kind.name}: {answer.body[:100]!r}")
        elif model != kind.model or not self._ledger.permitted(model, version, began, ended):
            self._wrong("version", f"{kind.name}: {model}/{version} answered after {ended - began:.3f} s")

    def _wrong(self, what: str, text: str) -> None:
        self.met.wrong[what] += 1
        if len(self.met.told) < _MOST_TOLD:
            self.met.told.append(f"{what}: {text}")


def kinds_of(models: Path) -> list[Kind]:
    """What clients send to the committed models."""
    document = json.loads((models / "tabular" / "1" / MANIFEST).read_bytes())
    row = {column["name"]: column["mean"] for column in document["columns"]}
    table = ",".join(f'"{name}"' for name in row) + "\n" + ",".join(map(str, row.values())) + "\n"
    seven, smear, cat = base64.b64decode(SEVEN), base64.b64decode(SMEAR), payloads.CAT_JPEG

    def kind(name: str, model: str, path: str, media_type: str, body: bytes, whole: Check, weight: float = 1) -> Kind:
        return Kind(name, model, head(path, len(body), media_type) + body, whole, weight)

    transfer = "/v1/predict?model=classifier-transfer"
    texts = "/v1/classify-text?version=stable"
    generated = {"grid": _grid, "npz": _npz, "zip": _zip, "json": results(_GENERATED, "images")}
    return [
        kind("predict", "classifier", "/v1/predict", "image/jpeg", cat, results(1), 4),
        kind("predict, form", "classifier", "/v1/predict", payloads.FORM, payloads.form([cat] * 4), results(4), 2),
        kind("predict, JSON", "classifier", "/v1/predict", _JSON, payloads.images_json([cat] * 8), results(8)),
        kind("predict transfer", "classifier-transfer", transfer, "image/jpeg", cat, results(1), 3),
        kind("detect", "detector", "/v1/detect", "image/jpeg", smear, results(1), 0.4),
        kind("detect, form", "detector", "/v1/detect", payloads.FORM, payloads.form([smear] * 2), results(2), 0.1),
        kind("text", "topics", "/v1/classify-text", "text/plain", b"crude oil prices rose", results(1), 2),
        kind("text by alias", "topics", texts, "text/plain", b"crude oil prices rose", results(1)),
        kind("text, JSON", "topics", "/v1/classify-text", _JSON, payloads.texts_json(3, 200), results(3)),
        kind("rows", "tabular", "/v1/predict-tabular", _JSON, json.dumps({"rows": [row] * 10}).encode(), results(10)),
        kind("CSV", "tabular", "/v1/predict-tabular", "text/csv", table.encode(), results(1), 3),
        kind("encode", "encoder", "/v1/encode", "image/png", seven, results(1), 4),
        *(
            kind(
                f"generate {name}", "decoder", "/v1/generate", _JSON,
                json.dumps({"count": _GENERATED, "format": name}).encode(), whole,
            )
            for name, whole in generated.items()
        ),
    ]  # fmt: skip


def results(count: int, field: str = "results") -> Check:
    """Whether a JSON document holds so many results."""

    def check(body: bytes) -> bool:
        try:
            document: Any = json.loads(body)
        except ValueError:
            return False
        return len(document[field]) == count

    return check


def _grid(body: bytes) -> bool:
    try:
        with Image.open(io.BytesIO(body)) as image:
            image.load()
            return image.width >= 10 * 28
    except OSError:
        return False


def _npz(body: bytes) -> bool:
    try:
        with np.load(io.BytesIO(body)) as arrays:
            return len(arrays["images"]) == len(arrays["latents"]) == _GENERATED
    except (ValueError, OSError, KeyError, zipfile.BadZipFile):
        return False


def _zip(body: bytes) -> bool:
    try:
        with zipfile.ZipFile(io.BytesIO(body)) as archive:
            return archive.testzip() is None and len(archive.namelist()) == _GENERATED + 1
    except zipfile.BadZipFile:
        return False
