"""Captured texts in the training split."""

import json
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from quartet.captured.items import CLASSES, Captured
from training.data.added import choose_new, content_of
from training.text.data import TextData, TextSplit


def with_captures(data: TextData, items: Sequence[Captured]) -> TextData:
    """The data with captured texts in its training split, unless a split has the same text."""
    usable: dict[bytes, tuple[str, int]] = {}
    for each in items:
        record = {} if each.item.media_type.startswith("image/") else json.loads(each.item.content)
        if each.kind == CLASSES and record.keys() == {"text"} and each.truth in data.classes:
            usable[_content(record["text"])] = record["text"], data.classes.index(each.truth)
    splits = (data.train, data.validation, data.test)
    known = (_content(text) for split in splits for text in split.texts)
    new = choose_new(data.fingerprint, known, usable, len(items), data.inspection)
    if not new.items:
        return replace(data, added=new.added)
    texts, labels = zip(*new.items, strict=True)
    train = TextSplit((*data.train.texts, *texts), np.concatenate((data.train.labels, np.array(labels, np.int64))))
    return replace(data, train=train, fingerprint=new.fingerprint, added=new.added)


def _content(text: str) -> bytes:
    return content_of(" ".join(text.split()).encode())
