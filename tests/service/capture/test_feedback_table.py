"""Feedback in the database: the last word of each key, within bounds."""

from pathlib import Path

import pytest

from service.capture.database import DAY
from service.capture.feedback_table import Feedback
from service.capture.store import Store
from tests.service.capture.test_store import MORNING


@pytest.fixture
def store(tmp_path: Path):
    with Store(tmp_path, create=True) as made:
        yield made


def test_feedback_of_a_key_is_replaced(store: Store):
    for key, points in (("alice", 1.0), ("bob", 1.0), ("alice", 0.0)):
        store.add_feedback(
            [Feedback("r", 0, key, {"right": bool(points)}, MORNING, MORNING + DAY, "m", "1", None, "right", points, 1)]
        )
    assert [(each.key, each.points) for each in store.feedback()] == [("alice", 0.0), ("bob", 1.0)]
    (sums,) = store.sums("m", MORNING - 10, DAY)
    assert (sums.version, sums.figure, sums.window, sums.count, sums.p, sums.w) == ("1", "right", 0, 2, 1.0, 2.0)


def test_feedback_is_bounded(store: Store, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("service.capture.feedback_table._MOST_WAITING", 5)
    monkeypatch.setattr("service.capture.feedback_table._MOST_FEEDBACK_BYTES", 10_000)
    assert store.room_for_waiting() == 5
    store.add_feedback([Feedback(f"w{number}", 0, "", {"right": True}, MORNING, 9e9) for number in range(4)])
    assert store.room_for_waiting() == 1
    assert [each.request for each in store.waiting_feedback(lambda request: request > "w1")] == ["w2", "w3"]
    large = ["x" * 100]
    store.add_feedback(
        [Feedback(f"r{number}", 0, "", {}, MORNING, 9e9, "m", "1", large, "right", 1, 1) for number in range(96)]
    )
    for _ in range(20):
        store.delete_expired(MORNING)
    kept = [each.request for each in store.feedback()]
    assert 10 < len(kept) < 30
    assert kept[-1] == "r95"
