"""What counts as a change of the models folder."""

import shutil
from pathlib import Path

from service.lifecycle.watcher import Watcher


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_a_version_that_is_being_copied_is_waited_for(tmp_path: Path):
    write(tmp_path / "m" / "1" / "model.onnx", "a")
    watcher = Watcher(tmp_path)
    assert not watcher.changed()
    write(tmp_path / "m" / "2" / "model.onnx", "a")
    assert not watcher.changed()
    write(tmp_path / "m" / "2" / "model.onnx", "ab")
    assert not watcher.changed()
    assert watcher.changed()
    assert not watcher.changed()


def test_policies_and_removals_count_and_other_files_do_not(tmp_path: Path):
    write(tmp_path / "models" / "m" / "1" / "model.onnx", "a")
    write(tmp_path / "state" / "m" / "audit.jsonl", "a")
    watcher = Watcher(tmp_path / "models", tmp_path / "state")
    write(tmp_path / "models" / "m" / "notes.txt", "a")
    write(tmp_path / "models" / "m" / ".draft-x" / "model.onnx", "a")
    write(tmp_path / "state" / "m" / "audit.jsonl", "ab")
    assert (watcher.changed(), watcher.changed()) == (False, False)
    for change in (
        lambda: write(tmp_path / "models" / "m" / "serving.toml", "load = 1"),
        lambda: write(tmp_path / "state" / "m" / "serving.toml", "load = 2"),
        lambda: shutil.rmtree(tmp_path / "models" / "m" / "1"),
    ):
        change()
        assert (watcher.changed(), watcher.changed(), watcher.changed()) == (False, True, False)


def test_a_folder_that_is_gone_for_a_while_is_no_change(tmp_path: Path):
    write(tmp_path / "models" / "m" / "1" / "model.onnx", "a")
    watcher = Watcher(tmp_path / "models")
    (tmp_path / "models").rename(tmp_path / "away")
    assert (watcher.changed(), watcher.changed()) == (False, False)
    (tmp_path / "away").rename(tmp_path / "models")
    assert (watcher.changed(), watcher.changed()) == (False, False)
