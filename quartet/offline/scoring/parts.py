"""The finished parts of an output: files of consecutive rows, each written atomically."""

import fcntl
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from quartet.offline.scoring.outputs import Format
from quartet.offline.scoring.sources import UnusableInput

_JOB, _LOCK, _LISTING = "job.json", "lock", "listing"


class Parts:
    """The parts of an output, in a folder beside it until the output is complete.

    A part's name states its first row and the row after its last.

    Args:
        output: the file to write.
    """

    def __init__(self, output: Path) -> None:
        self._output = output
        self._folder = output.with_name(output.name + ".parts")
        self.listing = self._folder / _LISTING
        self._lock: Any = None

    def __enter__(self) -> Self:
        if self._output.exists() and not self._folder.exists():
            raise UnusableInput(f"{self._output} exists: move it away, or name another output.")
        self._folder.mkdir(parents=True, exist_ok=True)
        self._lock = (self._folder / _LOCK).open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._lock.close()
            raise UnusableInput(f"Another process writes {self._output}.") from None
        return self

    def __exit__(self, *_: object) -> None:
        if self._folder.exists() and self.job is None:
            shutil.rmtree(self._folder)  # nothing was written
        self._lock.close()

    @property
    def job(self) -> Mapping[str, Any] | None:
        """The job that the parts belong to; None before the first one."""
        try:
            job: Mapping[str, Any] = json.loads((self._folder / _JOB).read_text())
        except FileNotFoundError:
            return None
        return job

    def begin(self, job: Mapping[str, Any]) -> None:
        """Records the job that the parts belong to.

        Raises:
            UnusableInput: those that are there are of something else.
        """
        before = self.job
        if before is None:
            self._write(self._folder / _JOB, json.dumps(job, indent=1).encode())
        elif before != job:
            other = ", ".join(f"{name} was {before.get(name)}" for name in job if before.get(name) != job[name])
            raise UnusableInput(
                f"{self._folder} holds a part of another job ({other}): finish that one, or delete the folder."
            )

    def found(self, format_: Format) -> list[tuple[int, int, Path]]:
        """The existing parts in order: first row, row after the last, file."""
        parts = []
        for path in sorted(self._folder.glob(f"*-*{format_.suffix}")):
            first, _, end = path.stem.partition("-")
            parts.append((int(first), int(end), path))
        return parts

    def done(self, format_: Format) -> int:
        """How many rows are written without a gap from the first; parts beyond a gap are dropped."""
        end = 0
        for first, after, path in self.found(format_):
            if first == end:
                end = after
            else:
                path.unlink()
        return end

    def missing(self, format_: Format, total: int, size: int) -> list[tuple[int, int]]:
        """The missing rows, as ranges of at most `size` rows (first, one after the last)."""
        ranges, end = [], 0
        for first, after in [*((first, after) for first, after, _ in self.found(format_)), (total, total)]:
            ranges += [(start, min(start + size, first)) for start in range(end, first, size)]
            end = after
        return ranges

    def add(self, format_: Format, first: int, end: int, encoded: Sequence[Any]) -> None:
        """Writes the rows from `first` up to `end`."""
        path = self._folder / f"{first:015d}-{end:015d}{format_.suffix}"
        draft = path.with_suffix(".draft")
        format_.write(draft, encoded)
        self._publish(draft, path)

    def finish(self, format_: Format) -> int:
        """Joins the parts into the output and removes them.

        Returns:
            How many rows it has.
        """
        rows = self.found(format_)[-1][1] if self.found(format_) else 0
        draft = self._folder / "whole.draft"
        format_.join([path for _, _, path in self.found(format_)], draft)
        self._publish(draft, self._output)
        shutil.rmtree(self._folder)
        return rows

    def _write(self, path: Path, data: bytes) -> None:
        draft = path.with_suffix(".draft")
        draft.write_bytes(data)
        self._publish(draft, path)

    @staticmethod
    def _publish(draft: Path, path: Path) -> None:
        """Renames a file after syncing it to disk."""
        with draft.open("rb") as file:
            os.fsync(file.fileno())
        draft.rename(path)
