"""Captured items that are added to the training split: those whose truth is known from feedback."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from quartet.captured.items import Captured, captured
from service.capture.database import Selection, Unusable
from service.capture.store import Store
from training.data.dataset import DataError, Inspection

ItemT = TypeVar("ItemT")


@dataclass(frozen=True, slots=True)
class Added:
    """What was added to the training split.

    Attributes:
        items: added.
        repeated: those that were left out, since a split of the data has the same input.
        unusable: those that were left out, since they do not fit the data: a class that it lacks, other columns.
        base: the fingerprint of the data without them.
    """

    items: int
    repeated: int
    unusable: int
    base: str


@dataclass(frozen=True, slots=True)
class New(Generic[ItemT]):
    """Items to add, in order, and what becomes of the data's name for itself.

    Attributes:
        items: that no split has.
        added: how many, and what was left out.
        fingerprint: of the data with them.
    """

    items: list[ItemT]
    added: Added
    fingerprint: str


def read_captures(folder: Path, model: str) -> list[Captured]:
    """The captured items of a model whose truth is known, in the order of arrival.

    Raises:
        DataError: the folder holds no captures, or none of this model with a truth.
    """
    try:
        with Store(folder) as store:
            found = [each for each in captured(store, Selection(model=model)) if each.truth is not None]
            there = sorted(store.sizes())
    except Unusable as error:
        raise DataError(f"--add {folder}: {error}.") from None
    if not found and model in there:
        raise DataError(
            f"--add {folder}: nobody has said what is true of its items of {model!r}: give feedback, as with "
            "`quartet feedback FILE`."
        )
    if not found:
        models = ", ".join(there) or "no model"
        raise DataError(f"--add {folder}: holds no items of {model!r}, but of {models}: --name chooses the model.")
    return found


def choose_new(
    base: str, known: Iterable[bytes], candidates: Mapping[bytes, ItemT], offered: int, inspection: Inspection
) -> New[ItemT]:
    """The items that no split has.

    Args:
        base: the fingerprint of the data.
        known: contents of all items of all splits.
        candidates: usable items by content; of equal ones the last, whose truth is the latest.
        offered: captured items.
        inspection: of the data; gets a note.
    """
    taken = dict(candidates)
    for content in known:
        taken.pop(content, None)
    unusable = offered - len(candidates)
    added = Added(len(taken), len(candidates) - len(taken), unusable, base)
    digest = hashlib.sha256(b"".join(content + repr(truth_of(item)).encode() for content, item in taken.items()))
    inspection.notes.append(describe(added))
    return New(list(taken.values()), added, f"{base}, and captured items sha256:{digest.hexdigest()}")


def truth_of(item: Any) -> Any:
    """What identifies the truth of an item to add: its last part."""
    return item[-1]


def describe(added: Added) -> str:
    """A line about what was added."""
    left_out = [
        *([f"{added.repeated} are in the data already"] if added.repeated else []),
        *([f"{added.unusable} do not fit the data, or repeat others"] if added.unusable else []),
    ]
    return f"captured items added to the training split: {added.items}" + (
        f"; left out: {', '.join(left_out)}" if left_out else ""
    )


def content_of(*parts: bytes) -> bytes:
    """Identifies an input."""
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        digest.update(part)
    return digest.digest()
