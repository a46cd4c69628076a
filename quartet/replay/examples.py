"""The captured items whose answers differ most, written for people to look at."""

import heapq
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quartet.captured.items import Captured
from quartet.offline.tables import to_cell

_MOST = 32
_SUFFIXES = {"image/jpeg": ".jpg", "image/png": ".png", "application/json": ".json"}


@dataclass(frozen=True, slots=True)
class Example:
    """An item, and what the versions answered.

    Attributes:
        difference: between two of the answers.
        captured: the item.
        answers: of all versions, in order.
    """

    difference: float
    captured: Captured
    answers: list[dict[str, Any]]


class Examples:
    """The examples that differ most, in bounded memory."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Example]] = []

    def add(self, example: Example) -> None:
        """Keeps an example, and drops the one that differs least if there are too many."""
        heapq.heappush(self._heap, (example.difference, example.captured.item.number, example))
        if len(self._heap) > _MOST:
            heapq.heappop(self._heap)

    def write(self, folder: Path, versions: Sequence[str]) -> None:
        """Writes the inputs, and README.md with the answers to each.

        Raises:
            OSError: the folder is there already, or cannot be written.
        """
        folder.mkdir(parents=True)
        lines = [f"# Where {' and '.join(versions)} differ most", ""]
        for number, (difference, _, example) in enumerate(sorted(self._heap, reverse=True), 1):
            item = example.captured.item
            name = f"{number:02d}{_SUFFIXES[item.media_type]}"
            (folder / name).write_bytes(item.content)
            shown = f"![]({name})" if item.media_type.startswith("image/") else f"[{name}]({name})"
            lines += [f"## {number}. Difference {difference:.3f}", "", shown, ""]
            lines += [f"- request {item.request}, item {item.index}, answered by version {item.version}"]
            for version, answer in zip(versions, example.answers, strict=True):
                lines.append(f"- {version}: {_said(answer)}")
            if example.captured.truth is not None:
                lines.append(f"- truth: {json.dumps(example.captured.truth, ensure_ascii=False)}")
            lines.append("")
        (folder / "README.md").write_text("\n".join(lines), encoding="utf-8")


def _said(answer: dict[str, Any]) -> str:
    kept = {name: answer[name] for name in ("labels", "boxes", "value", "error") if name in answer}
    return "; ".join(to_cell(name, value) or "nothing" for name, value in kept.items())
