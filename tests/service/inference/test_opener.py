"""The opener: versions are opened beside each other, before they are asked for, and once."""

import gc
import threading
import time
import weakref
from pathlib import Path

import pytest

from service.inference import loading
from service.inference.loading import Loader
from service.inference.manifest import InvalidModel
from service.inference.opener import Opener
from service.inference.session import Session
from service.inference.versions import folders_to_open
from service.policy.file import PolicyFiles
from service.tasks.registry import BUILT_IN
from tests.tiny import write_model, wrong_golden


def opener_of(threads: int = 1) -> Opener:
    return Opener(Loader(BUILT_IN.kinds, "cpu", threads, max_batch=64))


def test_what_has_begun_is_not_opened_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = write_model(tmp_path)
    opener = opener_of()
    opened: list[Path] = []
    load = opener._open
    monkeypatch.setattr(opener, "_open", lambda folder, wanted: opened.append(folder) or load(folder, wanted))
    opener.begin([folder])
    opener.begin([folder])
    assert opener.open(folder).result(30).manifest.name == "classifier"
    assert opened == [folder]
    # It was taken, so the next one is new.
    opener.open(folder).result(30)
    assert opened == [folder] * 2
    opener.begin([folder])
    opener.forget()
    opener.open(folder).result(30)
    assert opened == [folder] * 4


@pytest.mark.parametrize("threads", [1, 2])
def test_as_many_at_a_time_as_there_are_threads(tmp_path: Path, threads: int, monkeypatch: pytest.MonkeyPatch):
    opener = opener_of(threads)
    running, most, gate, lock = 0, 0, threading.Event(), threading.Lock()

    def load(*_: object) -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        if running == threads:
            gate.set()
        assert gate.wait(30)
        with lock:
            running -= 1

    monkeypatch.setattr(opener, "_open", load)
    folders = [tmp_path / name / "1" for name in "abcd"]
    opener.begin(folders)
    for folder in folders:
        opener.open(folder).result(30)
    assert most == threads


def test_after_the_first_round_one_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    opener = opener_of(2)
    opener.forget()
    running, most, opened = 0, 0, []

    def load(folder: Path, _: str) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        opened.append(folder)
        time.sleep(0.01)
        running -= 1

    monkeypatch.setattr(opener, "_open", load)
    folders = [tmp_path / name / "1" for name in "abcd"]
    opener.begin(folders)
    opener.open(tmp_path / "e" / "1").result(30)
    for folder in folders:
        opener.open(folder).result(30)
    assert most == 1
    assert set(opened[:-1]) == set(folders)
    assert opened[-1] == tmp_path / "e" / "1"


def test_a_rejected_version_leaves_nothing_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    sessions: list[weakref.ref[Session]] = []

    class Watched(Session):
        def __init__(self, *args: object) -> None:
            super().__init__(*args)  # type: ignore[arg-type]
            sessions.append(weakref.ref(self))

    monkeypatch.setattr(loading, "Session", Watched)
    folder = write_model(tmp_path, change=wrong_golden)
    gc.disable()
    try:
        with pytest.raises(InvalidModel):
            opener_of().open(folder).result(30)
        for thread in threading.enumerate():
            if thread.name == "load":
                thread.join(30)
        assert [session() for session in sessions] == [None]
    finally:
        gc.enable()


def test_an_error_is_given_to_the_caller(tmp_path: Path):
    folder = write_model(tmp_path, change=wrong_golden)
    with pytest.raises(InvalidModel, match="differs"):
        opener_of().open(folder).result(30)


def test_the_versions_that_the_policies_ask_for(tmp_path: Path):
    for name in ("a/1", "a/10", "a/draft", "b/2", "c", "d/1", "d/2", "d/3", "e/1"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "README.md").touch()
    (tmp_path / "d" / "serving.toml").write_text('default = "1"')
    (tmp_path / "e" / "serving.toml").write_text("default = ")
    found = sorted(
        folder.relative_to(tmp_path).as_posix() for folder in folders_to_open(tmp_path, PolicyFiles(tmp_path))
    )
    assert found == ["a/10", "b/2", "d/1", "d/3"]
    assert list(folders_to_open(tmp_path / "nowhere", PolicyFiles(tmp_path / "nowhere"))) == []
