"""Tables as people have them: CSV in any dialect and encoding, spreadsheets, JSON lines, parquet, the hub.

Whatever the format, a table is read a column at a time and in parts, so that one larger than memory can be used.
"""

import re
from pathlib import Path

from training.data import hub
from training.data.dataset import DataError, Inspection
from training.data.inspection import Problems
from training.data.sources import locate, visible
from training.data.tables.formats import DELIMITED, READERS
from training.data.tables.table import Table, from_dataset, joined

__all__ = ["DELIMITED", "SUFFIXES", "Table", "joined", "read_file", "read_tables", "split_of"]

SUFFIXES = (*READERS, ".parquet")
_ALIASES = {"valid": "validation", "val": "validation", "dev": "validation"}


def read_tables(
    source: str, hint: str, inspection: Inspection, problems: Problems, *, encoding: str | None = None
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
    if path is None or (path.is_dir() and any(path.rglob("*.parquet"))):
        loaded = hub.load(source, str(path or source))
        return {_ALIASES.get(name, name): from_dataset(f"{source} [{name}]", part) for name, part in loaded.items()}
    tables = {}
    for split, file in (_files(source, path) if path.is_dir() else {"train": path}).items():
        table = read_file(file, inspection, problems, encoding=encoding)
        if table is None:
            more = ": save it as .xlsx or CSV" if file.suffix.lower() in (".xls", ".ods", ".numbers") else ""
            raise DataError(f"{source}: ends in {file.suffix!r}{more}; {', '.join(SUFFIXES)} are read.")
        tables[split] = table
    return tables


def read_file(
    path: Path, inspection: Inspection, problems: Problems, *, encoding: str | None = None, rows: int | None = None
) -> Table | None:
    """Reads up to `rows` rows of a single file, or all; see `read_tables`. Returns None for a file of another kind."""
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        (part,) = hub.load(str(path), "parquet", data_files=str(path)).values()
        return from_dataset(path.name, part)
    reader = READERS.get(suffix)
    return reader(path, encoding, rows, inspection, problems) if reader else None


def split_of(name: str) -> str | None:
    """The split that a file or folder name contains as a word, such as `ratings_train.txt`."""
    words = [word.rstrip("0123456789") for word in re.split(r"[\W_]+", name.lower())]
    known = [word for word in words if word in (*hub.SPLITS, *_ALIASES)]
    return _ALIASES.get(known[-1], known[-1]) if known else None


def _files(source: str, folder: Path) -> dict[str, Path]:
    """The file of each split."""
    found = [path for path in visible(folder) if path.suffix.lower() in SUFFIXES and path.is_file()]
    if len(found) == 1:
        return {"train": found[0]}
    named = [(split, path) for path in found if (split := split_of(path.stem))]
    splits = dict(named)
    if "train" not in splits or len(splits) < len(named):
        listed = ", ".join(path.name for path in found[:10]) or "none"
        raise DataError(
            f"{source}: it is not clear which file is meant (tables: {listed}). Give one of them, or name them "
            "train, validation and test."
        )
    return splits
