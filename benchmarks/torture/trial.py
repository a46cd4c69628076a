"""A trial: the server, an attack and well-behaved clients, each in a process of its own, and the server's memory."""

import contextlib
import multiprocessing
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection as Pipe
from multiprocessing.process import BaseProcess
from pathlib import Path

import psutil

from benchmarks.servers import Running
from benchmarks.torture import behaved, strike
from benchmarks.torture.behaved import PATIENCE_SECONDS, Conduct
from benchmarks.torture.strike import GRACE_SECONDS, Attack, Report

# What the service is held to, whatever is done to it.
P99_MS = 100.0
PEAK_MB = 1000.0
# And on the routes whose models take longer by themselves.
P99_BESIDE_MS = 1000.0

# The least that a well-behaved client is watched, and how long it goes on after an attack.
_LEAST_SECONDS = 3.0
_AFTERWARDS_SECONDS = 0.5
# After an attack, until memory is looked at again.
_SETTLE_SECONDS = 4.0
_SAMPLE_SECONDS = 0.05
_FAMILY_SECONDS = 1.0
# A server that takes more of the memory that was free is killed before the machine suffers.
_MOST_OF_FREE = 0.5

_spawn = multiprocessing.get_context("spawn")


@dataclass(slots=True)
class Outcome:
    """A row of the table.

    Attributes:
        attack: its name, and the operation that the client used where it is not the usual one.
        answers: to the attack, by status.
        p50, p99, longest: of the client's waits, in milliseconds.
        requests: that the client sent; `failed` those not answered 200, by what came instead.
        peak_mb: the most resident memory of the server meanwhile; `after_mb` some seconds later.
        wrong: which bounds it breaks.
        notes: what else there is to know.
    """

    attack: str
    answers: dict[str, int]
    p50: float
    p99: float
    longest: float
    requests: int
    failed: dict[str, int]
    peak_mb: float
    after_mb: float
    wrong: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


class Watch:
    """Follows the resident memory of the server, its children included, on a thread.

    Attributes:
        peak_mb: the most so far.
        killed: whether the server took so much that it was killed.
    """

    def __init__(self, process: psutil.Process) -> None:
        self.peak_mb = 0.0
        self.killed = False
        self._process = process
        self._family = [process]
        self._family_until = 0.0
        self._limit_mb = _MOST_OF_FREE * psutil.virtual_memory().available / 1e6
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def begin(self) -> None:
        """Forgets the peak so far."""
        self.peak_mb = 0.0

    def now_mb(self) -> float:
        """Megabytes; 0 where the server is gone."""
        if (now := time.perf_counter()) > self._family_until:  # looking for children goes through all processes
            self._family_until = now + _FAMILY_SECONDS
            with contextlib.suppress(psutil.Error):
                self._family = [self._process, *self._process.children(recursive=True)]
        total = 0.0
        for process in self._family:
            with contextlib.suppress(psutil.Error):
                total += process.memory_info().rss / 1e6
        return total

    def _follow(self) -> None:
        while not self._over.wait(_SAMPLE_SECONDS):
            now = self.now_mb()
            self.peak_mb = max(self.peak_mb, now)
            if now > self._limit_mb and not self.killed:
                self.killed = True
                with contextlib.suppress(psutil.Error):
                    self._process.kill()


@contextlib.contextmanager
def started(target: object, *arguments: object) -> Iterator[tuple[BaseProcess, Pipe]]:
    """A process with a pipe to it as its last argument; it is ended if it has not by itself."""
    here, there = _spawn.Pipe()
    process = _spawn.Process(target=target, args=(*arguments, there), daemon=True)  # type: ignore[arg-type]
    process.start()
    there.close()
    try:
        yield process, here
    finally:
        if process.is_alive():
            process.kill()
        process.join()
        here.close()


def received(pipe: Pipe, seconds: float) -> object:
    """What a process sends; None if it sends nothing in time, or has ended."""
    try:
        return pipe.recv() if pipe.poll(seconds) else None
    except EOFError:
        return None


def lives(running: Running) -> bool:
    """Whether the server is still there."""
    try:
        return bool(running.process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def try_attack(attack: Attack, running: Running, models: Path, seconds: float | None) -> list[Outcome]:
    """Attacks a server that runs with the models of a folder; one row for each well-behaved client."""
    with Watch(running.process) as watch:
        report, conducts = _measured(attack, running, models, attack.seconds if seconds is None else seconds, watch)
    time.sleep(_SETTLE_SECONDS)
    rows = [_row(attack, name, report, conduct, watch) for name, conduct in zip(attack.beside, conducts, strict=True)]
    if watch.killed:
        rows[0].notes.append("the server was killed: it took half of the machine's free memory")
    elif not lives(running):
        rows[0].wrong.append("died")
        rows[0].notes.append("the server died")
    return rows


def _measured(
    attack: Attack, running: Running, models: Path, seconds: float, watch: Watch
) -> tuple[Report, list[Conduct]]:
    """What came of an attack, and what each well-behaved client met meanwhile."""
    most = seconds + 5 * GRACE_SECONDS
    stop = _spawn.Event()
    with contextlib.ExitStack() as stack:
        arguments = (attack.run, running.port, running.process.pid, models, seconds)
        _, attacker = stack.enter_context(started(strike.process, *arguments))
        said = received(attacker, most)
        clients = [
            stack.enter_context(started(behaved.process, operation, running.port, attack.keys[:1], stop))[1]
            for operation in attack.beside
        ]
        for client in clients:
            received(client, 5 * PATIENCE_SECONDS)
        begun = time.perf_counter()
        watch.begin()
        if said == "ready":
            attacker.send("go")
            said = received(attacker, most)
        time.sleep(max(_AFTERWARDS_SECONDS, begun + _LEAST_SECONDS - time.perf_counter()))
        stop.set()
        conducts = [received(client, 1.5 * PATIENCE_SECONDS) for client in clients]
    report = said if isinstance(said, Report) else Report(failures=["the attacker's process ended without a report"])
    return report, [conduct if isinstance(conduct, Conduct) else Conduct(1) for conduct in conducts]


def _row(attack: Attack, operation: str, report: Report, conduct: Conduct, watch: Watch) -> Outcome:
    first = operation == attack.beside[0]
    p50, p99, longest = conduct.percentiles(50, 99, 100)
    row = Outcome(
        attack.name if first else f"{attack.name}: {operation}",
        dict(sorted(report.answers.items())) if first else {},
        p50, p99, longest, len(conduct.seconds), dict(conduct.failed), watch.peak_mb, watch.now_mb(),
    )  # fmt: skip
    if not p99 < (P99_MS if first else P99_BESIDE_MS):
        row.wrong.append("p99")
    if conduct.failed or not conduct.seconds:
        row.wrong.append("client")
    if first:
        row.notes = [*_longest_by_phase(report, conduct), *report.notes, *report.failures]
        if not longest < attack.longest_ms:
            row.wrong.append("longest")
        if watch.peak_mb >= PEAK_MB or watch.killed:
            row.wrong.append("memory")
        if report.failures:
            row.wrong.append("attack")
    return row


def _longest_by_phase(report: Report, conduct: Conduct) -> list[str]:
    longest: dict[str, float] = {}
    for name, begin, end in report.phases:
        longest[name] = max(longest.get(name, 0.0), conduct.longest_ms(begin, end))
    return [f"{name}: a request took {wait:.0f} ms at most" for name, wait in longest.items()]
