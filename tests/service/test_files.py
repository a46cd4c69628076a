"""Files that are replaced while others read them."""

import os
from pathlib import Path

import pytest

from service.files import replace_file


def test_a_file_is_replaced_with_its_permissions(tmp_path: Path):
    path = tmp_path / "keys.toml"
    for mode, content in ((0o644, b"old"), (0o600, b"new")):
        replace_file(path, content, mode)
        assert (path.read_bytes(), path.stat().st_mode & 0o777) == (content, mode)
    assert os.listdir(tmp_path) == ["keys.toml"]


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "keys.toml"
    replace_file(path, b"old", 0o600)

    def fail(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="no space left"):
        replace_file(path, b"new", 0o600)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["keys.toml"]
