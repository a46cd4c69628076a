"""Captured items in the training split: never what a split has already, and never in validation or test."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from quartet.captured.items import Captured
from service.tasks.detection.letterbox import Letterbox
from service.tasks.tabular.columns import ColumnCard
from tests.pictures import encode
from tests.quartet.captured.test_captured import feedback, item, keep
from training.classification.added import with_captures as with_images
from training.data.added import Added, read_captures
from training.data.contents import fingerprint_like
from training.data.dataset import DataError
from training.data.images import ImageData, ImageSplit
from training.data.lazy import LazyImages
from training.detection.added import with_captures as with_boxes
from training.detection.data import DetectionData, DetectionSplit
from training.export.cards import data_card
from training.tabular.added import with_captures as with_rows
from training.tabular.data import TabularData, TabularSplit
from training.text.added import with_captures as with_texts
from training.text.data import TextData, TextSplit

RANDOM = np.random.default_rng(0)
PIXELS = RANDOM.integers(0, 256, (12, 8, 8, 3), np.uint8)
LABELS = np.arange(4) % 2
TEXT = {"media_type": "application/json", "operation": "classify-text"}


def images(start: int) -> ImageSplit:
    return ImageSplit(PIXELS[start : start + 4], LABELS)


def image_data() -> ImageData:
    return ImageData("colours", ("dark", "light"), images(0), images(4), images(8), "files-sha256:0")


def seen(number: int, truth: Any, pixels: np.ndarray | None = None, **changes: Any) -> Captured:
    """An item whose truth is known."""
    content = {} if pixels is None else {"content": encode(pixels)}
    return Captured(item(number, **content, **changes), truth)


def new(number: int = 0) -> np.ndarray:
    return np.random.default_rng(100 + number).integers(0, 256, (8, 8, 3), np.uint8)


def test_new_images_are_trained_on():
    items = [
        seen(1, "light", new(1)),
        seen(2, "dark", PIXELS[0]),  # of train
        seen(3, "dark", PIXELS[5]),  # of validation
        seen(4, "dark", PIXELS[9]),  # of test
        seen(5, "mauve", new(2)),  # no class of the data
        seen(6, "dark", new(3)),
        seen(7, "light", new(3)),  # the same image; the last truth counts
        seen(8, "dark", content=b"no image"),
    ]
    data = image_data()
    more = with_images(data, items)
    assert more.added == Added(items=2, repeated=3, unusable=3, base="files-sha256:0")
    assert np.array_equal(more.train.images[:4], data.train.images)
    assert np.array_equal(more.train.images[4:], np.stack([new(1), new(3)]))
    assert more.train.labels.tolist() == [0, 1, 0, 1, 1, 1]
    assert (more.validation, more.test) == (data.validation, data.test)
    assert more.fingerprint.startswith("files-sha256:0, and captured items sha256:")
    assert more.fingerprint != with_images(data, items[:1]).fingerprint
    (note,) = more.inspection.notes[:1]
    assert note == (
        "captured items added to the training split: 2; left out: 3 are in the data already, 3 do not fit the data, or "
        "repeat others"
    )


def test_versions_are_compared_by_the_data_without_them():
    data = image_data()
    more = with_images(data, [seen(1, "light", new(1))])
    card = data_card(more)
    assert (card.fingerprint, card.train, card.test) == ("files-sha256:0", 5, 4)
    assert card.added is not None
    assert (card.added.items, card.added.repeated, card.added.unusable) == (1, 0, 0)
    assert fingerprint_like(more, "files-sha256:0") == "files-sha256:0"
    assert fingerprint_like(more, data.pixel_fingerprint()) == data.pixel_fingerprint()
    assert data_card(data).added is None


def test_images_that_stay_on_disk_are_extended():
    order = np.array([3, 0, 2, 1])
    lazy = ImageSplit(LazyImages(PIXELS.__getitem__, order, (8, 8, 3)), LABELS)
    data = ImageData("colours", ("dark", "light"), lazy, images(4), images(8), "files-sha256:0")
    more = with_images(data, [seen(1, "light", new(1)), seen(2, "dark", PIXELS[3])])
    assert isinstance(more.train.images, LazyImages)
    assert np.array_equal(more.train.images[np.arange(5)], np.concatenate((PIXELS[order], new(1)[None])))
    assert np.array_equal(more.train.take(np.array([4, 0])).images[np.arange(2)], np.stack([new(1), PIXELS[3]]))


def test_new_texts_are_trained_on():
    def texts(*words: str) -> TextSplit:
        return TextSplit(words, np.zeros(len(words), np.int64))

    data = TextData("topics", ("grain", "crude"), texts("wheat"), texts("barley"), texts("maize  "), "sha256:0")
    records = ["oil", " maize", "barley", "rice"]
    items = [
        seen(number, "crude", content=json.dumps({"text": each}).encode(), **TEXT)
        for number, each in enumerate(records)
    ]
    more = with_texts(data, [*items, seen(9, "crude", new(1))])
    assert more.train.texts == ("wheat", "oil", "rice")
    assert more.train.labels.tolist() == [0, 1, 1]
    assert more.added == Added(2, 2, 1, "sha256:0")


def table(kind: str) -> TabularData:
    layout = (ColumnCard(name="age"), ColumnCard(name="city", kind="category", values=("Rome", "Oslo")))
    rows = np.array([[1, 0], [2, 1], [np.nan, 0]], np.float32)
    splits = []
    for row in rows:
        targets = np.array([0], np.int64) if kind == "classification" else np.array([1.5], np.float32)
        splits.append(TabularSplit(row[None], targets))
    classes = ("no", "yes") if kind == "classification" else ()
    return TabularData("table", kind, layout, "price", classes, *splits, "sha256:0")  # type: ignore[arg-type]


def row(number: int, truth: Any, record: dict[str, Any], **answer: Any) -> Captured:
    given = {"target": "price", **(answer or {"labels": []})}
    return seen(number, truth, content=json.dumps(record).encode(), media_type="application/json", answer=given)


def test_new_rows_are_trained_on():
    items = [
        row(1, "yes", {"age": 7, "city": "Oslo"}),
        row(2, "yes", {"age": 2.0, "city": "Oslo"}),  # of validation
        row(3, "yes", {"age": None, "city": "Rome"}),  # of test
        row(4, "perhaps", {"age": 8, "city": "Oslo"}),
        row(5, "no", {"age": 8, "town": "Oslo"}),
        row(6, "no", {"age": 9, "city": "(unknown)"}),
        row(7, "yes", {"age": 8, "city": "Rome"}, target="size", labels=[]),
    ]
    more = with_rows(table("classification"), items)
    assert more.train.rows.tolist() == [[1, 0], [7, 1], [9, -1]]
    assert more.train.targets.tolist() == [0, 1, 0]
    assert more.train.targets.dtype == np.int64
    assert more.added == Added(2, 2, 3, "sha256:0")
    numbers = with_rows(table("regression"), [row(1, 4.25, {"age": 7, "city": "Oslo"}, value=1.0)])
    assert numbers.train.targets.tolist() == [1.5, 4.25]
    assert numbers.train.targets.dtype == np.float32


def test_new_boxes_are_trained_on():
    def split(start: int) -> DetectionSplit:
        box = np.array([[0, 0, 4, 4]], np.float32)
        nothing = np.empty((0, 4), np.float32), np.empty(0, np.int64)
        frame = Letterbox.of(8, 8, 8, 8)
        return DetectionSplit(
            PIXELS[start : start + 1], (box,), (np.array([0]),), (frame,), ("a.png",), (nothing,)
        )  # fmt: skip

    data = DetectionData("cells", ("RBC", "WBC"), split(0), split(1), split(2), "files-sha256:0")
    # The image was sent at twice the size in which it was kept.
    answer = {"width": 16, "height": 16, "boxes": []}
    truth = [{"label": "WBC", "x_min": 2.0, "y_min": 4.0, "x_max": 8.0, "y_max": 20.0}]
    more = with_boxes(
        data,
        [
            seen(1, truth, new(1), answer=answer),
            seen(2, [], new(2), answer=answer),
            seen(3, truth, PIXELS[2], answer=answer),
            seen(4, [{**truth[0], "label": "other"}], new(3), answer=answer),
        ],
    )
    assert more.added == Added(2, 1, 1, "files-sha256:0")
    assert len(more.train) == 3
    assert more.train.boxes[1].tolist() == [[1, 2, 4, 8]]
    assert more.train.labels[1].tolist() == [1]
    assert more.train.boxes[2].shape == (0, 4)
    assert len(list(more.train.annotations())) == 3
    assert np.array_equal(more.train.take(np.array([1])).images[0], new(1))


def test_nothing_new_changes_nothing():
    data = image_data()
    more = with_images(data, [seen(1, "dark", PIXELS[0])])
    assert more.fingerprint == data.fingerprint
    assert more.train is data.train
    assert more.added == Added(0, 1, 0, "files-sha256:0")


def test_captures_are_read_with_the_truth_of_their_feedback(tmp_path: Path):
    folder = keep(
        tmp_path / "captures",
        [item(0), item(1), item(2), item(3, model="other")],
        [feedback(0, {"right": True}, "red", 1.0), feedback(1, {"right": False}, None)],
    )
    (found,) = read_captures(folder, "classifier")
    assert (found.item.request, found.truth) == ("r-0", "red")
    with pytest.raises(DataError, match="nobody has said what is true of its items of 'other'"):
        read_captures(folder, "other")
    with pytest.raises(DataError, match="holds no items of 'third', but of classifier, other: --name chooses"):
        read_captures(folder, "third")
    with pytest.raises(DataError, match="holds no captures"):
        read_captures(tmp_path, "classifier")
