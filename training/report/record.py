"""What a model card needs beyond the manifest: `report/record.json` beside the plots of a version."""

import json
from pathlib import Path
from typing import Any

REPORT = "report"
_RECORD = "record.json"


def read_record(folder: Path) -> dict[str, Any]:
    """The record of the version in `folder`; empty if it has none."""
    path = folder / REPORT / _RECORD
    found: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
    return found


def update_record(folder: Path, **fields: Any) -> None:
    """Writes fields of JSON's types into the record of the version in `folder`; others keep their values."""
    (folder / REPORT).mkdir(parents=True, exist_ok=True)
    text = json.dumps(read_record(folder) | fields, indent=1, ensure_ascii=False)
    (folder / REPORT / _RECORD).write_text(text + "\n")
