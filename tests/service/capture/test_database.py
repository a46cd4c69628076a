"""The database: what is there, and of which layout."""

import sqlite3
from pathlib import Path

import pytest

from service.capture.database import FILE, Unusable
from service.capture.store import Store


def test_a_folder_without_captures_is_named(tmp_path: Path):
    with pytest.raises(Unusable, match="holds no captures"):
        Store(tmp_path)
    (tmp_path / FILE).write_bytes(b"no database at all, but long enough to look like one" * 100)
    with pytest.raises(Unusable, match="cannot be used"):
        Store(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(Unusable, match="cannot be written"):
        Store(tmp_path / "file" / "below", create=True)


def test_a_newer_layout_is_refused(tmp_path: Path):
    Store(tmp_path, create=True).close()
    with sqlite3.connect(tmp_path / FILE) as database:
        database.execute("PRAGMA user_version = 99")
    database.close()
    with pytest.raises(Unusable, match="layout 99"):
        Store(tmp_path)
