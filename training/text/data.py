"""Labelled texts, from whatever people keep them in."""

import hashlib
import re
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt

from training.data.added import Added
from training.data.dataset import DataError, Inspection
from training.data.hub import SPLITS
from training.data.image_sources import class_folders
from training.data.inspection import Bad, Problems, describe_classes, describe_repeats, describe_splits
from training.data.markers import warn_of_markers
from training.data.recognise import Recognised, Source
from training.data.sources import files_below, find_encoding, locate, name_of
from training.data.splits import hold_out, limited, split_validation, validation_fraction
from training.data.tables import Table, check_fits, read_tables, stored
from training.parser import did_you_mean

_TEXT_COLUMNS = (
    "text", "content", "sentence", "document", "review", "reviews", "comment", "comments", "tweet", "question",
    "utterance", "body", "message", "title", "내용", "본문", "문장", "텍스트", "리뷰", "댓글", "제목",
)  # fmt: skip
_LABEL_COLUMNS = (
    "label", "labels", "class", "topic", "category", "target", "sentiment", "intent", "라벨", "레이블", "분류", "감정",
    "감성", "카테고리", "주제", "평가",
)  # fmt: skip
_SAMPLE = 1_000
# Texts to read have this many words on average; names and categories have fewer.
_FEWEST_WORDS = 3
# Columns of labels beside a text have no more values than this.
_MOST_LABELS = 20
# What a training takes at most: 39,192 texts of 648 bytes took about 24 times their size.
_BYTES_PER_BYTE, _BYTES_PER_TEXT = 30, 500

# Letters of scripts without spaces between words: Thai, Lao, Burmese, Khmer, Japanese, Chinese.
_UNSPACED = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff]")

Ids = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class TextSplit:
    """texts: as they were written; labels: int64, shape (n,)."""

    texts: tuple[str, ...]
    labels: Ids

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: Ids) -> "TextSplit":
        """The items at `indices`, in that order."""
        return TextSplit(tuple(self.texts[index] for index in indices), self.labels[indices])


@dataclass(frozen=True, slots=True)
class TextData:
    """A data set with its three splits, its fingerprint, and the column that its texts are from."""

    name: str
    classes: tuple[str, ...]
    train: TextSplit
    validation: TextSplit
    test: TextSplit
    fingerprint: str
    inspection: Inspection = field(default_factory=Inspection)
    text_column: str | None = None
    added: Added | None = None

    @property
    def division(self) -> tuple[Ids, Ids]:
        """The indices of the selection half and of the calibration half of validation."""
        return split_validation(self.validation.labels)


def load_texts(
    source: str,
    *,
    text_column: str | None = None,
    label_column: str | None = None,
    validation: float = 0.1,
    limit: int | None = None,
    bad: Bad = "refuse",
    encoding: str | None = None,
    seed: int = 0,
) -> TextData:
    """Loads a data set of labelled texts.

    Args:
        source: as `training.data.tables.read_tables` takes it, or a folder with a folder of text files for each class
            (optionally below `train/`, `test/`).
        text_column: by default the one with a usual name, or the one with the longest texts.
        label_column: by default the one with a usual name, or the one with the fewest values.
        validation: the fraction of train that becomes the validation split if the source has none, more of few texts
            (see `validation_fraction`); 0.2 for test.
        limit: the most texts of each split; those of a larger source are not read into memory.

    Raises:
        DataError: a wrong path, a missing column, unusable rows, each of which is named; or more than fits into memory.
    """
    inspection, problems = Inspection(), Problems()
    tables = open_texts(source, inspection, problems, encoding)
    text_column, label_column = find_columns(source, tables["train"], text_column, label_column, inspection)
    for name in [name for name, table in tables.items() if not {text_column, label_column} <= set(table.columns)]:
        inspection.notes.append(f"{tables.pop(name).name}: has no column {label_column!r}, so it is not used")
    first = list(islice(tables["train"].parts(text_column), 20))  # they tell how long the texts are
    size = sum(part.nbytes for part in first) / max(1, sum(map(len, first)))
    used = sum(table.rows if limit is None else min(limit, table.rows) for table in tables.values())
    check_fits(source, "texts", used, size * _BYTES_PER_BYTE + _BYTES_PER_TEXT)
    cells = (value for table in tables.values() for value in table.values(label_column) if value is not None)
    names = tables["train"].classes.get(label_column) or sorted({str(value).strip() for value in cells} - {""})
    parts = {name: _usable(table, text_column, label_column, names, problems) for name, table in tables.items()}
    problems.settle(source, bad, inspection)
    if len(names) < 2:
        raise DataError(f"{source}: has {len(names)} class; classification needs two or more.")
    for name, (_, labels) in parts.items():
        if not len(labels):
            raise DataError(f"{source} [{name}]: holds no text.")
    if "test" not in parts and "validation" in parts:
        parts["test"] = parts.pop("validation")
    held_out = [name for name in ("test", "validation") if name not in parts]
    for name in held_out:
        table, labels = parts["train"]
        fraction = validation_fraction(len(labels), validation) if name == "validation" else 0.2
        kept, taken = hold_out(source, name, len(labels), fraction, seed, labels)
        parts[name], parts["train"] = ((table.take(some), labels[some]) for some in (taken, kept))
    splits = {}
    for name in SPLITS:
        table, labels = parts[name]
        chosen = np.arange(len(labels)) if limit is None else limited(name, labels, limit, seed)
        splits[name] = TextSplit(tuple(table.take(chosen).values(text_column)), labels[chosen])
    empty = [name for index, name in enumerate(names) if not (splits["train"].labels == index).any()]
    if empty:
        raise DataError(f"{source} [train]: no text of the class {', '.join(empty[:10])}.")
    describe_splits(inspection, {name: len(split) for name, split in splits.items()}, held_out, "texts")
    _describe(inspection, names, splits)
    digest = hashlib.sha256()
    for split in splits.values():
        for text in split.texts:
            digest.update(text.encode() + b"\0")
        digest.update(split.labels.tobytes())
    fingerprint = f"sha256:{digest.hexdigest()}"
    return TextData(
        name_of(source),
        tuple(names),
        **splits,
        fingerprint=fingerprint,
        inspection=inspection,
        text_column=text_column,
        added=None,
    )


def _usable(
    table: Table, text_column: str, label_column: str, names: Sequence[str], problems: Problems
) -> tuple[Table, Ids]:
    """The rows that have a text and a label, and their labels; the others are added to `problems`."""
    lookup = {name: index for index, name in enumerate(names)}
    rows, labels = array("q"), array("q")
    pairs = zip(table.values(text_column), table.values(label_column), strict=True)
    for row, (text, label) in enumerate(pairs):
        index = label if label_column in table.classes else lookup.get(str(label).strip())
        if not isinstance(text, str) or not text.strip():
            problems.add(table.where(row), "the text is missing")
        elif label is None or label == "":
            problems.add(table.where(row), "the label is missing")
        elif index is None or not 0 <= index < len(lookup):
            problems.add(table.where(row), f"the label {label!r} is none of the classes")
        else:
            rows.append(row)
            labels.append(index)
    return table.take(np.array(rows, dtype=np.int64)), np.array(labels, dtype=np.int64)


def _describe(inspection: Inspection, names: Sequence[str], splits: Mapping[str, TextSplit]) -> None:
    counts = np.bincount(np.concatenate([split.labels for split in splits.values()]), minlength=len(names))
    describe_classes(inspection, names, counts.tolist(), "texts", remedy=", and try --balance 0.5")
    digests = {name: [hashlib.sha256(text.encode()).digest() for text in split.texts] for name, split in splits.items()}
    describe_repeats(inspection, digests, "texts")
    seen = (splits["train"], splits["validation"])
    warn_of_markers(inspection, *_joined(seen), names)
    texts = [text for split in splits.values() for text in split.texts]
    if silent := [text for text in texts if not any(map(str.isalpha, text))]:
        examples = ", ".join(repr(text[:40]) for text in list(dict.fromkeys(silent))[:3])
        inspection.warnings.append(
            f"{len(silent):,} of the {len(texts):,} texts have no letters ({examples}): with a vocabulary of words the "
            "network reads each as one unknown word"
        )


def _joined(splits: Sequence[TextSplit]) -> tuple[list[str], Ids]:
    return [text for split in splits for text in split.texts], np.concatenate([split.labels for split in splits])


def open_texts(
    source: str, inspection: Inspection, problems: Problems, encoding: str | None, *, needs_train: bool = True
) -> dict[str, Table]:
    """The table of texts of each split, from any of the sources of `load_texts`.

    Without `needs_train` any split will do, and all texts may have the same label.
    """
    hint = "Give a hub id, a folder, a URL, or a table of texts (CSV, TSV, xlsx, JSON lines, parquet)."
    path = locate(source, hint)
    if (
        path is not None
        and path.is_dir()
        and not any(path.rglob("*.parquet"))
        and (files := _text_files(path, needs_train=needs_train))
    ):
        return {split: _table_of(split, some, encoding) for split, some in files.items()}
    tables = read_tables(source, hint, inspection, problems, needs_train=needs_train, encoding=encoding)
    if needs_train and "train" not in tables:
        raise DataError(f"{source}: has no train split, only {', '.join(tables)}.")
    # Some data sets have further splits, of texts without labels.
    return {name: table for name, table in tables.items() if name in SPLITS}


def _table_of(split: str, files: Sequence[tuple[str, str]], encoding: str | None) -> Table:
    texts = (Path(path).read_text(find_encoding(Path(path), encoding)[0]) for path, _ in files)
    rows = ((row, (text, files[row][1])) for row, text in enumerate(texts))
    return replace(stored(split, ("text", "label"), rows), locate=lambda row: files[row][0])


def _text_files(folder: Path, *, needs_train: bool = True) -> dict[str, list[tuple[str, str]]]:
    """The text files in class folders with their classes, by split; none if a split has fewer than two classes.

    Without `needs_train` one class is enough.
    """
    files: dict[str, list[tuple[str, str]]] = {}
    for split, children in class_folders(folder, needs_train=needs_train).items():
        found = ((path, child.name) for child in children for path in files_below(child))
        files[split] = [(path, label) for path, label in found if path.lower().endswith(".txt")]
    fewest = 2 if needs_train else 1
    return files if all(len({label for _, label in some}) >= fewest for some in files.values()) else {}


def recognise_texts(source: Source) -> Recognised | None:
    """Whether a source holds texts with labels, in files or in a table whose target the user has not named."""
    if source.folder and not source.has_images and _text_files(source.folder):
        return Recognised("text", "text files in a folder for each class")
    if source.target is not None or source.table is None:
        return None
    try:
        text, label = find_columns(source.name, source.table, None, None, Inspection())
    except DataError:
        if labels := _label_columns(source.table):
            listed = ", ".join(labels)
            raise DataError(
                f"{source.name}: holds texts. Name the column of labels with --label-column: {listed}."
            ) from None
        return None
    if not _are_texts(source.table, text):
        return None
    columns = {"text_column": text, "label_column": label}
    return Recognised("text", f"texts in {text!r} with labels in {label!r}", columns)


def _are_texts(table: Table, column: str) -> bool:
    """Whether a column holds texts to read, which hardly repeat."""
    cells = [cell for cell in islice(table.values(column), _SAMPLE) if isinstance(cell, str) and cell]
    words = sum(max(len(cell.split()), len(_UNSPACED.findall(cell)) // 2) for cell in cells)
    return bool(cells) and words >= _FEWEST_WORDS * len(cells) and len(set(cells)) > len(cells) / 2


def _label_columns(table: Table) -> list[str]:
    """The columns beside a single one of texts, if all of them could be labels."""
    texts = [name for name in table.columns if _are_texts(table, name)]
    others = [name for name in table.columns if name not in texts]
    values = {name: set(islice(table.values(name), _SAMPLE)) - {None} for name in others}
    are_labels = all(len(some) <= _MOST_LABELS for some in values.values())
    return [name for name, some in values.items() if len(some) > 1] if len(texts) == 1 and are_labels else []


def find_columns(
    source: str, table: Table, text: str | None, label: str | None, inspection: Inspection
) -> tuple[str, str]:
    """The columns of the texts and of the labels, of the training split; `inspection` gets what was guessed.

    Raises:
        DataError: there is no such column, or several could hold the texts or the labels.
    """
    known = f"has the columns {', '.join(table.columns)}: choose one with"
    for option, name in (("--text-column", text), ("--label-column", label)):
        if name is not None and name not in table.columns:
            raise DataError(
                f"{source}: has no column {name}{did_you_mean(name, table.columns) or '.'} It {known} {option}."
            )
    by_name = {name.lower(): name for name in reversed(table.columns)}

    def usual(names: Sequence[str], other: str | None) -> str | None:
        return next((by_name[name] for name in names if by_name.get(name, other) != other), None)

    text = text or usual(_TEXT_COLUMNS, label)
    label = label or usual(_LABEL_COLUMNS, text)
    if text and label:
        return text, label
    sample = {name: [str(v) for v in islice(table.values(name), _SAMPLE) if v] for name in table.columns}
    if not text:
        lengths = {name: sum(map(len, cells)) / max(1, len(cells)) for name, cells in sample.items() if name != label}
        text = max(lengths, key=lambda name: lengths[name], default=None)
    if not label:
        distinct = {name: len(set(cells)) for name, cells in sample.items() if name != text}
        few = [name for name, count in distinct.items() if 1 < count <= min(200, table.rows // 2)]
        label = few[0] if len(few) == 1 else None
    if not text or not label:
        raise DataError(f"{source}: {known} {'--label-column' if text else '--text-column'}.")
    inspection.notes.append(
        f"texts are read from the column {text!r} and labels from {label!r} (--text-column and --label-column override "
        "it)"
    )
    return text, label
