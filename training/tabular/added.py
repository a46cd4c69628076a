"""Captured rows in the training split."""

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from quartet.captured.items import CLASSES, NUMBER, Captured
from service.errors import QuartetError
from service.tasks.tabular.rows import Columns, from_records
from training.data.added import choose_new, content_of
from training.tabular.columns import Floats
from training.tabular.data import TabularData, TabularSplit


def with_captures(data: TabularData, items: Sequence[Captured]) -> TabularData:
    """The data with captured rows in its training split, unless a split has the same values."""
    reading = Columns(data.layout, data.ignored)
    usable: dict[bytes, tuple[Floats, Any]] = {}
    for each in items:
        record = {} if each.item.media_type.startswith("image/") else json.loads(each.item.content)
        target = _target(data, each)
        if target is None or each.item.answer.get("target") != data.target:
            continue
        try:
            row = from_records([record], reading, 1, cells=True)[0]
        except QuartetError:  # other columns, or values that these columns do not have
            continue
        usable[_content(row)] = row, target
    splits = (data.train, data.validation, data.test)
    known = (_content(row) for split in splits for row in split.rows)
    new = choose_new(data.fingerprint, known, usable, len(items), data.inspection)
    if not new.items:
        return replace(data, added=new.added)
    rows, targets = zip(*new.items, strict=True)
    train = TabularSplit(
        np.concatenate((data.train.rows, np.stack(rows))),
        np.concatenate((data.train.targets, np.array(targets, data.train.targets.dtype))),
    )
    return replace(data, train=train, fingerprint=new.fingerprint, added=new.added)


def _target(data: TabularData, each: Captured) -> int | float | None:
    """The true class or number; None if it is of another kind."""
    if data.classes:
        return data.classes.index(each.truth) if each.kind == CLASSES and each.truth in data.classes else None
    return float(each.truth) if each.kind == NUMBER else None


def _content(row: Floats) -> bytes:
    # A NaN has many representations, and an answer's numbers are written with seven digits.
    return content_of(repr([f"{value:.6g}" for value in row.tolist()]).encode())
