"""The board: documents of all processes, written at most once a second, and never seen in part."""

import asyncio
import json
from pathlib import Path

import pytest

from service.processes import board as module
from service.processes.board import Board
from tests.shadowed import until


async def test_a_single_process_reads_what_it_publishes():
    board, figures = Board(), {"count": 1}
    assert board.read("a") == []
    board.publish("a", lambda: dict(figures))
    figures["count"] = 2
    assert board.read("a") == [{"count": 2}]
    board.remove("a")
    assert board.read("a") == []


async def test_processes_read_each_others_documents(tmp_path: Path):
    one, two = Board(tmp_path, 0), Board(tmp_path, 1)
    one.publish("a", lambda: "of one")
    two.publish("a", lambda: "of two")
    two.publish("other/key", lambda: 3)
    await until(lambda: len(one.read("a")) == len(two.read("a")) == 2)
    assert one.read("a") == ["of one", "of two"]
    assert two.read("a") == ["of two", "of one"]
    await until(lambda: one.read("other/key") == [3])
    two.remove("a")
    assert one.read("a") == ["of one"]


async def test_many_changes_are_written_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    written = []
    monkeypatch.setattr(module, "_SECONDS", 0.05)
    monkeypatch.setattr(module, "_replace_all", lambda files: written.append(files))
    board = Board(tmp_path, 0)
    for count in range(100):
        board.publish("a", lambda count=count: count)
        board.publish("b", lambda: 0)
        await asyncio.sleep(0)
    await until(lambda: not board._writing)
    assert len(written) <= 2
    assert json.loads(written[-1][board._path("a", 0)]) == 99


async def test_a_document_that_is_removed_while_it_is_written_is_gone(tmp_path: Path):
    board = Board(tmp_path, 0)
    board.publish("a", lambda: 1)
    await asyncio.sleep(0)
    board.remove("a")
    await asyncio.gather(*board._tasks)
    assert list((tmp_path / "board").iterdir()) == []


async def test_a_full_disk_is_logged_and_tried_again(tmp_path: Path, monkeypatch, caplog):
    monkeypatch.setattr(module, "_SECONDS", 0.01)
    board = Board(tmp_path, 0)

    def full(files):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(module, "_replace_all", full)
        board.publish("a", lambda: 1)
        await until(lambda: "No space left on device" in caplog.text)
    board.publish("a", lambda: 2)
    await until(lambda: Board(tmp_path, 1).read("a") == [2])


async def test_a_process_that_starts_again_removes_what_it_had_left(tmp_path: Path):
    board = Board(tmp_path, 1)
    board.publish("a", lambda: 1)
    board.attach("x", b"data")
    await until(lambda: Board(tmp_path, 0).read("a") == [1])
    Board(tmp_path, 11).attach("x", b"of another")
    again = Board(tmp_path, 1)
    assert again.read("a") == []
    assert again.attachment(1, "x") is None
    assert again.attachment(11, "x") == b"of another"


async def test_a_damaged_file_is_left_out(tmp_path: Path):
    one, two = Board(tmp_path, 0), Board(tmp_path, 1)
    two.publish("a", lambda: 1)
    await until(lambda: one.read("a") == [1])
    two._path("a", 1).write_bytes(b"{")
    assert one.read("a") == []


@pytest.mark.parametrize("shared", [False, True])
def test_attachments(tmp_path: Path, shared: bool):
    board = Board(tmp_path if shared else None, 2)
    assert board.attachment(2, "x") is None
    board.attach("x", b"one")
    board.attach("x", b"two")
    assert board.attachment(2, "x") == b"two"
    assert board.attachment(3, "x") is None
    if shared:
        assert Board(tmp_path, 3).attachment(2, "x") == b"two"
    board.detach("x")
    board.detach("x")
    assert board.attachment(2, "x") is None
