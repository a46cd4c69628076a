"""The rows of a study, kept in a run's folder together with the settings they were measured with."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from training.engine.atomic import replacing

Row = dict[str, Any]


def recall_rows(path: Path, origin: Mapping[str, Any]) -> list[Row]:
    """The rows that were saved with the same origin; none otherwise."""
    if not path.is_file():
        return []
    kept = json.loads(path.read_text())
    rows: list[Row] = kept["rows"] if kept["origin"] == json.loads(json.dumps(origin)) else []
    return rows


def keep_rows(path: Path, origin: Mapping[str, Any], rows: list[Row]) -> None:
    """Writes the rows.

    Args:
        path: of the JSON file.
        origin: what determines the outcome (data, network, settings), in plain JSON types.
        rows: of the study so far.
    """
    with replacing(path) as partial:
        partial.write_text(json.dumps({"origin": origin, "rows": rows}, indent=1) + "\n")
