"""What an attack is, the register of them, and the process in which one runs."""

import asyncio
import math
import os
import resource
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection as Pipe
from pathlib import Path

import psutil

from benchmarks.torture.wire import Answer, Connection, Gone, head

# However long an attack takes, it is over so many seconds after its time.
GRACE_SECONDS = 45.0
# Attackers would not be on the server's machine: they get the processor when it leaves some over.
_NICENESS = 10
_CONNECTIONS = 4096


@dataclass(slots=True)
class Report:
    """What came of an attack.

    Attributes:
        answers: how many by status code, and by a word where there was none.
        notes: what else is worth knowing.
        failures: what ought to have been otherwise.
        phases: names, begins and ends of parts for which the well-behaved client's longest wait is stated.
    """

    answers: Counter[str] = field(default_factory=Counter)
    phases: list[tuple[str, float, float]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)


class Strike:
    """One attack under way.

    Args:
        port: of the server.
        pid: of its process.
        models: its models folder, in which versions may come and go.
        seconds: that an attack lasts that can be repeated.
        pipe: to the process that measures.

    Attributes:
        report: what came of it.
    """

    def __init__(self, port: int, pid: int, models: Path, seconds: float, pipe: Pipe) -> None:
        self.port = port
        self.pid = pid
        self.models = models
        self.seconds = seconds
        self.report = Report()
        self._pipe = pipe
        self._end = float("inf")

    async def begin(self) -> None:
        """Ends the preparations: what follows is measured."""
        self._pipe.send("ready")
        await asyncio.to_thread(self._pipe.recv)
        self._end = time.perf_counter() + self.seconds

    @property
    def left(self) -> float:
        """Seconds that are left of its time."""
        return self._end - time.perf_counter()

    def resident_mb(self) -> float:
        """Megabytes of the server's process."""
        return float(psutil.Process(self.pid).memory_info().rss) / 1e6

    def count(self, outcome: int | str) -> None:
        """Counts an answer's status, or what there was instead."""
        self.report.answers[str(outcome)] += 1

    def note(self, text: str) -> None:
        """Says what else is worth knowing."""
        self.report.notes.append(text)

    def require(self, holds: bool, text: str) -> None:
        """Says what ought to hold."""
        if not holds and text not in self.report.failures:
            self.report.failures.append(text)

    async def ask(self, *parts: bytes, keep: bool = False) -> Answer | None:
        """Sends a whole request on a connection of its own, and counts its answer; None where there was none."""
        connection = None
        try:
            connection = await Connection.open(self.port)
            answer = await connection.ask(*parts, keep=keep)
        except Gone:
            self.count("closed")
            return None
        except asyncio.CancelledError:
            self.count("unanswered")
            raise
        finally:
            if connection:
                connection.close()
        self.count(answer.status)
        return answer

    async def post(self, path: str, body: bytes, media_type: str) -> Answer | None:
        """Posts a body; see `ask`."""
        return await self.ask(head(path, len(body), media_type), body)

    async def together(self, count: int, one: Callable[[], Awaitable[object]]) -> None:
        """Does the same so many times at once."""
        await asyncio.gather(*(one() for _ in range(count)))

    async def again(self, count: int, one: Callable[[], Awaitable[object]]) -> None:
        """So many clients that do the same again and again until the time is over."""

        async def client() -> None:
            while self.left > 0:
                await one()
                await asyncio.sleep(0.001)  # where the server is gone, nothing above takes any time

        await self.together(count, client)


@dataclass(frozen=True, slots=True)
class Attack:
    """An attack.

    Attributes:
        name: on the command line.
        description: in words.
        run: does it.
        seconds: that it lasts unless told otherwise.
        beside: the well-behaved clients, by the operation that they use.
        longest_ms: the longest that the first of them may wait.
        keys: API keys of the server, of which the well-behaved clients have the first; none if it needs none.
    """

    name: str
    description: str
    run: Callable[[Strike], Awaitable[None]]
    seconds: float
    beside: tuple[str, ...]
    longest_ms: float
    keys: tuple[str, ...] = ()


ATTACKS: dict[str, Attack] = {}

Run = Callable[[Strike], Awaitable[None]]


def attack(
    seconds: float = 8,
    beside: tuple[str, ...] = ("predict",),
    longest_ms: float = math.inf,
    keys: tuple[str, ...] = (),
) -> Callable[[Run], Run]:
    """Registers a function as the attack of its name; its docstring describes it."""

    def register(run: Run) -> Run:
        name = run.__name__.replace("_", "-")
        ATTACKS[name] = Attack(name, (run.__doc__ or "").strip(), run, seconds, beside, longest_ms, keys)
        return run

    return register


def process(run: Run, port: int, pid: int, models: Path, seconds: float, pipe: Pipe) -> None:
    """The main function of an attacker's process; its report is the last thing that it sends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever measures ends this process
    os.nice(_NICENESS)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _CONNECTIONS if hard == resource.RLIM_INFINITY else min(_CONNECTIONS, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    strike = Strike(port, pid, models, seconds, pipe)
    asyncio.run(_limited(strike, run))
    pipe.send(strike.report)


async def _limited(strike: Strike, run: Run) -> None:
    work = asyncio.ensure_future(run(strike))
    started = time.perf_counter()
    while not work.done():
        await asyncio.wait([work], timeout=0.2)
        if strike.left < -GRACE_SECONDS or time.perf_counter() - started > strike.seconds + 4 * GRACE_SECONDS:
            work.cancel()
            await asyncio.wait([work], timeout=5)
            strike.note(f"ended after {strike.seconds + GRACE_SECONDS:.0f} s")
            return
    if error := work.exception():
        strike.require(False, f"the attack itself failed: {error!r}")
