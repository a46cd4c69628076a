"""The results of finished runs and published versions, for a table that compares them."""

import json
from pathlib import Path
from typing import Any

RESULT = "result.json"


def write_result(folder: Path, result: dict[str, Any]) -> None:
    """Writes a run's result into `folder`, which is made if it does not exist."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / RESULT).write_text(json.dumps(result, indent=1) + "\n")


def read_result(folder: Path) -> dict[str, Any]:
    """The result of a finished run or of a published version.

    Raises:
        ValueError: `folder` is neither.
    """
    for path in (folder / RESULT, folder / "report" / RESULT):
        if path.is_file():
            result: dict[str, Any] = json.loads(path.read_text())
            return result
    raise ValueError(f"--compare {folder}: holds no {RESULT}; give the folder of a finished run or published version")
