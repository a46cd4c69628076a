"""The last answers in bounded memory."""

from service.capture import recent as module
from service.capture.recent import Recent


def test_the_oldest_are_forgotten(monkeypatch):
    monkeypatch.setattr(module, "_MOST_ANSWERS", 10)
    recent = Recent()
    for number in range(8):
        recent.add(f"r{number}", "m", "1", "", float(number), ["cat"])
    assert [recent.find(f"r{number}") is not None for number in range(8)] == [False] * 3 + [True] * 5
    recent.add("boxes", "m", "1", "", 9.0, [[["RBC", 0, 0, 1, 1]] * 7])
    assert recent.find("r7") is not None
    assert recent.find("r6") is None


def test_an_id_that_is_used_again_stands_for_the_last_answer(monkeypatch):
    monkeypatch.setattr(module, "_MOST_ANSWERS", 10)
    recent = Recent()
    for number in range(1000):
        recent.add("always", "m", str(number), "", float(number), ["cat"])
    recent.add("other", "m", "1", "", 0.0, ["cat"])
    found = recent.find("always")
    assert found is not None
    assert found.version == "999"


def test_an_answer_that_is_too_large_is_not_remembered(monkeypatch):
    monkeypatch.setattr(module, "_MOST_ANSWERS", 10)
    recent = Recent()
    recent.add("large", "m", "1", "", 0.0, [[["RBC", 0, 0, 1, 1]] * 100])
    assert recent.find("large") is None
    recent.add("long", "m", "1", "", 0.0, ["cat"] * 1000)
    assert recent.find("long") is None
