"""The board: documents of all processes, written at most once a second, and never seen in part."""

import asyncio
import json
import threading
from pathlib import Path
from typing import Any

import pytest

from service.processes import board as module
from service.processes.board import Board
from tests.shadowed import until


async def becomes(board: Board, key: str, documents: list[Any]) -> None:
    """Waits until the board has these documents."""
    async with asyncio.timeout(30):
        while await board.read(key) != documents:  # noqa: ASYNC110 - a file of another process
            await asyncio.sleep(0.01)


async def test_a_single_process_reads_what_it_publishes():
    board, figures = Board(), {"count": 1}
    assert await board.read("a") == []
    board.publish("a", lambda: dict(figures))
    figures["count"] = 2
    assert await board.read("a") == [{"count": 2}]
    board.remove("a")
    assert await board.read("a") == []


async def test_processes_read_each_others_documents(tmp_path: Path):
    one, two = Board(tmp_path, 0), Board(tmp_path, 1)
    one.publish("a", lambda: "of one")
    two.publish("a", lambda: "of two")
    two.publish("other/key", lambda: 3)
    await becomes(one, "a", ["of one", "of two"])
    await becomes(two, "a", ["of two", "of one"])
    await becomes(one, "other/key", [3])
    two.remove("a")
    assert await one.read("a") == ["of one"]


async def test_reading_opens_only_the_documents_of_its_key_and_on_a_thread(tmp_path: Path, monkeypatch):
    one, two = Board(tmp_path, 0), Board(tmp_path, 1)
    two.publish("a", lambda: 1)
    two.publish("b", lambda: 2)
    await becomes(one, "a", [1])
    await becomes(one, "b", [2])
    for number in range(100):
        two.attach(f"x{number}", b"data")
    opened = []
    read_bytes = Path.read_bytes

    def note(path: Path) -> bytes:
        opened.append((path, threading.current_thread()))
        return read_bytes(path)

    monkeypatch.setattr(Path, "read_bytes", note)
    assert await one.read("a") == [1]
    ((path, thread),) = opened
    assert (path, thread is threading.main_thread()) == (two._path("a", 1), False)
    assert list(path.parent.iterdir()) == [path]


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
    assert [path for path in (tmp_path / "board").rglob("*") if path.is_file()] == []


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
    await becomes(Board(tmp_path, 1), "a", [2])


async def test_a_process_that_starts_again_removes_what_it_had_left(tmp_path: Path):
    board = Board(tmp_path, 1)
    board.publish("a", lambda: 1)
    board.attach("x", b"data")
    await becomes(Board(tmp_path, 0), "a", [1])
    Board(tmp_path, 11).attach("x", b"of another")
    again = Board(tmp_path, 1)
    assert await again.read("a") == []
    assert again.attachment(1, "x") is None
    assert again.attachment(11, "x") == b"of another"


async def test_a_damaged_file_is_left_out(tmp_path: Path):
    one, two = Board(tmp_path, 0), Board(tmp_path, 1)
    two.publish("a", lambda: 1)
    await becomes(one, "a", [1])
    two._path("a", 1).write_bytes(b"{")
    assert await one.read("a") == []


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
