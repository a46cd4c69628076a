"""Counts of calls and batches by version, as the statistics extension of the Open Inference Protocol has them."""

import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from service.inference.leases import Version
from service.inference.observers import BatchRan, CallEnded


@dataclass(slots=True)
class _Duration:
    count: int = 0
    seconds: float = 0.0

    def add(self, seconds: float, count: int = 1) -> None:
        self.count += count
        self.seconds += seconds

    def to_json(self) -> dict[str, int]:
        return {"count": self.count, "ns": int(self.seconds * 1e9)}


@dataclass(slots=True)
class _Counts:
    last: float = 0.0
    inferences: int = 0
    executions: int = 0
    success: _Duration = field(default_factory=_Duration)
    fail: _Duration = field(default_factory=_Duration)
    queue: _Duration = field(default_factory=_Duration)
    decode: _Duration = field(default_factory=_Duration)
    compute: _Duration = field(default_factory=_Duration)
    # By the number of items in a batch.
    batches: dict[int, _Duration] = field(default_factory=lambda: defaultdict(_Duration))


class Statistics:
    """An observer that counts from the start of the process on; versions that are gone are forgotten when asked."""

    tensors = False

    def __init__(self) -> None:
        self._counts: dict[tuple[str, str], _Counts] = defaultdict(_Counts)

    def observe(self, events: Sequence[Any]) -> None:
        """See `service.inference.observers.Observer`."""
        for event in events:
            if type(event) is BatchRan:
                counts = self._counts[event.label[:2]]
                counts.inferences += len(event.queued)
                counts.executions += 1
                counts.last = time.time()
                counts.queue.add(sum(event.queued), len(event.queued))
                counts.compute.add(event.seconds)
                counts.batches[len(event.queued)].add(event.seconds)
            elif type(event) is CallEnded:
                counts = self._counts[event.labels[0][:2]]
                seconds = sum(event.decode_times) + event.queue_seconds + event.inference_seconds
                (counts.fail if event.error else counts.success).add(seconds)
                counts.decode.add(sum(event.decode_times), len(event.decode_times))

    def describe(self, versions: Iterable[Version], loaded: Iterable[Version]) -> dict[str, Any]:
        """The counts of some versions; those of versions that are not loaded any more are dropped."""
        known = {(each.name, each.version) for each in loaded}
        for gone in self._counts.keys() - known:
            del self._counts[gone]
        return {"model_stats": [_to_json(each, self._counts[each.name, each.version]) for each in versions]}


def _to_json(version: Version, counts: _Counts) -> dict[str, Any]:
    nothing = _Duration().to_json()
    return {
        "name": version.name,
        "version": version.version,
        "last_inference": int(counts.last * 1000),
        "inference_count": counts.inferences,
        "execution_count": counts.executions,
        "inference_stats": {
            "success": counts.success.to_json(),
            "fail": counts.fail.to_json(),
            "queue": counts.queue.to_json(),
            "compute_input": counts.decode.to_json(),
            "compute_infer": counts.compute.to_json(),
            "compute_output": nothing,
            # There is no cache of answers; perf-analyzer reads these fields all the same.
            "cache_hit": nothing,
            "cache_miss": nothing,
        },
        "batch_stats": [
            {"batch_size": size, "compute_input": nothing, "compute_infer": run.to_json(), "compute_output": nothing}
            for size, run in sorted(counts.batches.items())
        ],
    }
