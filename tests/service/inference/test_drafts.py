import contextlib
from pathlib import Path

import pytest

from service.inference.drafts import new_draft, take_number


def test_a_draft_becomes_the_next_version(tmp_path: Path):
    (tmp_path / "x" / "9").mkdir(parents=True)
    with contextlib.ExitStack() as undo:
        draft = new_draft(tmp_path / "x", undo)
        (draft / "file").write_text("content")
        assert draft.name.startswith(".draft-")
        version = take_number(draft, undo)
        undo.pop_all()
    assert version == tmp_path / "x" / "10"
    assert (version / "file").read_text() == "content"
    assert version.stat().st_mode & 0o777 == 0o755


def test_nothing_is_left_of_what_is_not_finished(tmp_path: Path):
    with contextlib.ExitStack() as undo:
        first = take_number(new_draft(tmp_path / "x", undo), undo)
        assert first.is_dir()
    assert list(tmp_path.iterdir()) == []


def test_a_number_that_is_taken_meanwhile_is_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with contextlib.ExitStack() as undo:
        draft = new_draft(tmp_path / "x", undo)
        real = Path.iterdir

        def taken(folder: Path):
            found = list(real(folder))
            (folder / "1").mkdir()
            (folder / "1" / "file").touch()
            return iter(found)

        monkeypatch.setattr(Path, "iterdir", taken)
        assert take_number(draft, undo).name == "2"
        undo.pop_all()
