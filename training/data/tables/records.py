"""Tables of JSON objects: one on each line, or a list of them."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from training.data.dataset import DataError, Inspection
from training.data.encodings import find_encoding
from training.data.inspection import Problems
from training.data.tables.table import Table, stored, text_of

JSON = (".json", ".jsonl", ".ndjson")


def read_json(path: Path, problems: Problems, encoding: str | None, inspection: Inspection) -> Table:
    """Reads a file of JSON objects; a column is a name that any of them has.

    Args:
        path: of the file.
        problems: gets the lines that hold no object.
        encoding: of the file; found by default.
        inspection: gets how it was read.

    Raises:
        DataError: it holds no objects, or is no valid JSON.
    """
    encoding, guessed = find_encoding(path, encoding)
    if guessed:
        inspection.notes.append(f"{path.name}: read as {encoding} (found; --encoding overrides it)")
    columns = list(dict.fromkeys(name for _, record in _records(path, encoding, Problems()) for name in record))
    if not columns:
        raise DataError(f"{path}: holds no JSON objects; write one on each line, or a list of them.")
    rows = (
        (line, [text_of(record.get(name)) for name in columns]) for line, record in _records(path, encoding, problems)
    )
    return stored(path.name, columns, rows)


def _records(path: Path, encoding: str, problems: Problems) -> Iterator[tuple[int, dict[str, Any]]]:
    """The objects in a file of JSON lines or in a JSON list, each with its line (or number)."""
    with path.open(encoding=encoding) as file:
        start = file.read(1)
        while start.isspace():
            start = file.read(1)
        file.seek(0)
        if start == "[":
            try:
                document = json.load(file)
            except ValueError as error:
                raise DataError(f"{path}: is not valid JSON: {error}") from error
            numbered: Iterator[tuple[int, Any]] = enumerate(document, start=1)
        else:
            numbered = ((number, line) for number, line in enumerate(file, start=1) if line.strip())
        for number, item in numbered:
            try:
                record = json.loads(item) if isinstance(item, str) else item
            except ValueError as error:
                problems.add(f"{path.name}:{number}", f"is not valid JSON: {error}")
                continue
            if isinstance(record, dict):
                yield number, record
            else:
                problems.add(f"{path.name}:{number}", "is not a JSON object")
