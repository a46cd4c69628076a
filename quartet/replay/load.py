"""Captured items to a running server, at the recorded pace or as fast as it answers."""

import argparse
import asyncio
import json
import math
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np

from quartet.calls import json_body
from quartet.captured.items import Captured
from quartet.console import FAILED
from quartet.errors import ProblemError, UnreachableError
from quartet.http import Connection
from quartet.replay.compare import begin
from quartet.replay.tensors import Tensors
from quartet.replay.turn import Turn
from service.capture.database import Selection
from service.capture.store import Store
from service.errors import QuartetError as ServiceError
from service.settings import Settings

_CLIENTS = 8
_TIMEOUT_SECONDS = 60.0
_QUANTILES = (50, 95, 99)


@dataclass(slots=True)
class Outcome:
    """What became of the requests.

    Attributes:
        seconds: from the time when each was to be sent until it was answered.
        late: seconds by which each was sent too late, since all clients were busy.
        failures: refusals, broken connections and unreadable answers, by what the error says.
        compared: answers that could be compared with the recorded ones, and `same` those that say the same.
    """

    seconds: list[float] = field(default_factory=list)
    late: float = 0.0
    failures: Counter[str] = field(default_factory=Counter)
    compared: int = 0
    same: int = 0


class Sender(Protocol):
    """A way to send items again."""

    async def send(self, each: Captured, turn: Turn) -> dict[str, Any]:
        """The result of an item, which is sent as it was kept.

        Args:
            each: the item.
            turn: is started right before the request, and ended right after the answer.
        """


async def replay(options: argparse.Namespace, where: Selection, settings: Settings | None = None) -> int:
    """Sends captured items, one in each request, and prints how the server stood it.

    Args:
        options: `folder`, `server`, `versions` (one), `speed` and `clients`.
        where: the items.
        settings: of the service, for the model that makes tensors for /v2; None to send items over /v1.

    Returns:
        0; 1 if a request failed.

    Raises:
        NothingToReplay: there are no such items.
        OtherTensors: the server's model is another one.
    """
    clients, model = options.clients or _CLIENTS, options.versions[0]
    connection = Connection(
        options.server, timeout=_TIMEOUT_SECONDS, retry_for=0, concurrency=clients, headers=None, transport=None
    )
    outcome = Outcome()
    async with AsyncExitStack() as stack:
        stack.push_async_callback(connection.close)
        store = stack.enter_context(Store(options.folder))
        first, items = begin(store, where, options.folder)
        sender: Sender = Documents(connection, model)
        if settings is not None:
            operation = first.item.operation
            sender = tensors = await Tensors.open(connection, model, operation, settings)
            stack.push_async_callback(tensors.close)
            items = (each for each in items if each.item.operation == operation)
        waiting = _Timetable(first, items, options.speed or math.inf)
        began = time.monotonic()
        await asyncio.gather(*(_client(sender, waiting, outcome) for _ in range(clients)))
        seconds = time.monotonic() - began
    print("\n".join(_report(outcome, seconds)))
    return FAILED if outcome.failures else 0


class _Timetable:
    """Captured items, and when each is to be sent."""

    def __init__(self, first: Captured, rest: Iterator[Captured], speed: float) -> None:
        self._first: Captured | None = first
        self._rest = rest
        self._speed = speed
        self._recorded, self._began = first.item.time, time.monotonic()

    def next(self) -> tuple[Captured, Turn] | None:
        """The next item and its turn; None at the end."""
        each, self._first = self._first or next(self._rest, None), None
        if each is None:
            return None
        if math.isinf(self._speed):
            return each, Turn(None)
        return each, Turn(self._began + max(0.0, (each.item.time - self._recorded) / self._speed))


async def _client(sender: Sender, waiting: _Timetable, outcome: Outcome) -> None:
    while (following := waiting.next()) is not None:
        each, turn = following
        try:
            result = await sender.send(each, turn)
        except ProblemError as error:
            outcome.failures[f"{error.status} {error.code or error.fields.get('error', '')}"] += 1
            continue
        except (UnreachableError, ServiceError) as error:
            outcome.failures[str(error)] += 1
            continue
        finally:
            outcome.late = max(outcome.late, turn.late)
        outcome.seconds.append(turn.seconds)
        # Other fields may differ in their last digits from machine to machine.
        ours = each.answered
        if ours is not None:
            theirs = replace(each, item=replace(each.item, answer={**each.item.answer, **result})).answered
            outcome.compared += 1
            outcome.same += ours == theirs


class Documents:
    """Sends items over /v1.

    Args:
        connection: to the server.
        model: `NAME` or `NAME/VERSION`.
    """

    def __init__(self, connection: Connection, model: str) -> None:
        self._connection = connection
        self._model = model

    async def send(self, each: Captured, turn: Turn) -> dict[str, Any]:
        """See `Sender`."""

        async def receive(response: Any) -> Any:
            return json.loads(await response.aread())

        if each.item.media_type.startswith("image/"):
            body: dict[str, Any] = {"content": each.item.content, "headers": {"content-type": each.item.media_type}}
        else:
            record = json.loads(each.item.content)
            texts = each.item.operation == "classify-text"
            body = json_body({"texts": [record["text"]]} if texts else {"rows": [record]})
        await turn.start()
        document = await self._connection.exchange(
            "POST", f"v1/{each.item.operation}", receive, params={"model": self._model}, **body
        )
        turn.end()
        (result,) = document["results"]
        found: dict[str, Any] = result
        return found


def _report(outcome: Outcome, seconds: float) -> Iterator[str]:
    answered = len(outcome.seconds)
    total = answered + outcome.failures.total()
    yield f"{answered} of {total} requests were answered, {answered / seconds:.1f} a second."
    if answered:
        values = np.percentile(outcome.seconds, _QUANTILES) * 1000
        quantiles = ", ".join(f"p{name} {value:.1f}" for name, value in zip(_QUANTILES, values, strict=True))
        yield f"Latency in ms: {quantiles}, max {1000 * max(outcome.seconds):.1f}."
    if outcome.late > 1:
        yield f"Requests were sent up to {outcome.late:.1f} s late: raise --clients, or the server is too slow."
    if outcome.compared:
        yield f"{outcome.same} of {outcome.compared} answers say the same as the recorded ones."
    for what, count in outcome.failures.most_common():
        yield f"{count} failed: {what}"
