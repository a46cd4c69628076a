"""Tables as people have them: CSV in any dialect and encoding, spreadsheets, JSON lines, parquet, the hub.

Whatever the format, a table is read a column at a time and in parts, so that one larger than memory can be used.
"""

from collections.abc import Mapping
from pathlib import Path

import datasets

from training.data import hub
from training.data.dataset import DataError, Inspection
from training.data.inspection import Problems
from training.data.sources import is_clutter, locate
from training.data.tables.delimited import DELIMITED, read_delimited
from training.data.tables.records import JSON, read_json
from training.data.tables.spreadsheet import read_spreadsheet
from training.data.tables.table import Table, from_dataset, joined

__all__ = ["DELIMITED", "SUFFIXES", "Table", "joined", "read_file", "read_tables", "split_of"]

SUFFIXES = (*DELIMITED, *JSON, ".xlsx", ".parquet")
_ALIASES = {"valid": "validation", "val": "validation", "dev": "validation"}


def read_tables(
    source: str,
    hint: str,
    inspection: Inspection,
    problems: Problems,
    *,
    encoding: str | None = None,
) -> dict[str, Table]:
    """Reads a table, or one for each split.

    Args:
        source: a hub id, a URL, an archive, a file, or a folder with one file or one for each split (with `train`,
            `validation` or `test` in its name).
        hint: what to give instead of something that does not exist.
        inspection: gets how the files were read.
        problems: gets the rows that do not fit their header.
        encoding: of text files; found by default.

    Raises:
        DataError: nothing is there, a file cannot be parsed, or it is not clear which one is meant.
    """
    path = locate(source, hint)
    if path is None:
        return _loaded(source, hub.load(source, source))
    if path.is_dir():
        if any(path.rglob("*.parquet")):
            return _loaded(source, hub.load(source, str(path)))
        files = _files(source, path)
    else:
        files = {"train": path}
    tables = {}
    for split, file in files.items():
        table = read_file(file, inspection, problems, encoding=encoding)
        if table is None:
            more = ": save it as .xlsx or CSV" if file.suffix.lower() in (".xls", ".ods", ".numbers") else ""
            raise DataError(f"{source}: ends in {file.suffix!r}{more}; {', '.join(SUFFIXES)} are read.")
        tables[split] = table
    return tables


def read_file(
    path: Path,
    inspection: Inspection,
    problems: Problems,
    *,
    encoding: str | None = None,
    rows: int | None = None,
) -> Table | None:
    """Reads a single file; see `read_tables`.

    Args:
        path: of the file.
        inspection: gets how it was read.
        problems: gets the rows that do not fit their header.
        encoding: of a text file; found by default.
        rows: the most rows to read; by default all.

    Returns:
        None for a file of another kind.
    """
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        part = next(iter(hub.load(str(path), "parquet", data_files=str(path)).values()))
        return from_dataset(path.name, part)
    if suffix == ".xlsx":
        return read_spreadsheet(path, inspection, problems, rows)
    if suffix in JSON:
        return read_json(path, problems, encoding, inspection)
    if suffix in DELIMITED:
        return read_delimited(path, problems, encoding, inspection, rows)
    return None


def split_of(name: str) -> str | None:
    """The split that a file or folder name speaks of, such as `ratings_train.txt`."""
    words = "".join(character if character.isalnum() else " " for character in name.lower()).split()
    words = [word.rstrip("0123456789") for word in words]
    known = [word for word in words if word in (*hub.SPLITS, *_ALIASES)]
    return _ALIASES.get(known[-1], known[-1]) if known else None


def _files(source: str, folder: Path) -> dict[str, Path]:
    """The file of each split."""
    found = sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and not is_clutter(p) and p.is_file())
    named = [(split_of(path.stem), path) for path in found]
    if len(found) == 1:
        return {"train": found[0]}
    splits = {split: path for split, path in named if split}
    if "train" not in splits or len(splits) < sum(split is not None for split, _ in named):
        listed = ", ".join(path.name for path in found[:10]) or "none"
        raise DataError(
            f"{source}: it is not clear which file is meant (tables: {listed}). Give one of them, or name them "
            "train, validation and test."
        )
    return splits


def _loaded(source: str, loaded: Mapping[str, datasets.Dataset]) -> dict[str, Table]:
    return {_ALIASES.get(name, name): from_dataset(f"{source} [{name}]", part) for name, part in loaded.items()}
