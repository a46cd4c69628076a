"""The pictures that `quartet predict --render` writes."""

from pathlib import Path
from typing import Any


def save(folder: Path, row: dict[str, Any], png: bytes) -> dict[str, Any]:
    """Writes a picture named after its file, without overwriting any; returns a row that names it."""
    where = {name: row[name] for name in ("file", "row") if name in row}
    stem = "-".join([Path(row["file"]).stem, *([str(row["row"])] if "row" in row else [])])
    path, number = folder / f"{stem}.png", 1
    while path.exists():
        number += 1
        path = folder / f"{stem}-{number}.png"
    path.write_bytes(png)
    return where | {"picture": str(path)}
