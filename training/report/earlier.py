"""The records of the trainings that a training goes on from."""

from pathlib import Path
from typing import Any

from service.inference.manifest import MANIFEST
from training.engine.checkpoint import recorded_history, recorded_settings
from training.report.curves import VALUES
from training.report.record import read_record


def earlier_runs(start: Path | None) -> list[dict[str, Any]]:
    """The trainings that the weights of the run or version `start` come from, the first one first.

    Each is its `history` and its `initial` figures. A training that left no record ends the search.
    """
    runs: list[dict[str, Any]] = []
    while start:
        if (start / MANIFEST).is_file():
            record = read_record(start)
            own = [{name: record[name] for name in VALUES}] if "history" in record else []
            return [*(record.get("earlier", ()) if own else ()), *own, *runs]
        state, before = recorded_history(start), recorded_settings(start).get("start_from")
        if state is None:
            break
        runs.insert(0, state)
        start = Path(before) if before not in (None, "None") else None
    return runs
