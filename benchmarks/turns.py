"""Measures several servers in turns, so that a machine that gets slower or faster meanwhile does so for all of them."""

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from benchmarks.load import measure
from benchmarks.servers import Running

SubjectT = TypeVar("SubjectT")
ResultT = TypeVar("ResultT")


def in_turns(
    subjects: Mapping[str, SubjectT], rounds: int, measured: Callable[[SubjectT], ResultT]
) -> dict[str, list[ResultT]]:
    """What was measured of each subject by its name, one result for each round.

    Args:
        subjects: what is measured, by name.
        rounds: how often each is measured; the order is turned around after each round.
        measured: measures a subject.
    """
    results: dict[str, list[ResultT]] = {name: [] for name in subjects}
    for number in range(rounds):
        # The first one and the last one change places.
        for name in sorted(subjects, reverse=number % 2 == 1):
            results[name].append(measured(subjects[name]))
    return results


def processor_microseconds(server: Running, images: Sequence[bytes], clients: int, seconds: float) -> float:
    """The processor time that a server takes for an image of `/v1/predict`, in µs."""
    before = server.cpu_seconds()
    load = measure(server.port, "/v1/predict", images, clients, seconds)
    return 1e6 * (server.cpu_seconds() - before) / (load.rate * seconds)
