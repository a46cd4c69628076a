"""The database: limits, the ring, deletion that leaves nothing, several processes, and a process that is killed."""

import os
import signal
import sqlite3
import stat
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from service.capture.database import DAY, FILE, HOUR, Selection, Unusable
from service.capture.feedback_table import Feedback
from service.capture.store import Item, Limits, Store
from tests.server import ROOT

MANY = Limits(10_000, 10_000)
MORNING = 20_000 * DAY + 9 * HOUR + 1.0


def item(number: int = 0, content: bytes = b"x" * 1000, **changes: object) -> Item:
    fields = {
        "model": "classifier", "version": "1", "variant": "reference", "operation": "predict",
        "request": f"r-{number}", "index": 0, "key": None, "time": MORNING, "expires": MORNING + DAY,
        "strategy": "random", "answer": {"labels": []}, "media_type": "image/png", "content": content,
    }  # fmt: skip
    return Item(**fields | changes)  # type: ignore[arg-type]


def write(store: Store, *items: Item, limits: Limits = MANY, most: float = 1e9, now: float = MORNING):
    pairs = {(each.model, each.strategy): limits for each in items}
    return store.write(items, pairs, {each.model: most for each in items}, now)


def everything(folder: Path) -> bytes:
    """All that is on the disk."""
    return b"".join(path.read_bytes() for path in folder.iterdir())


@pytest.fixture
def store(tmp_path: Path):
    with Store(tmp_path / "captures", create=True) as made:
        yield made


def test_items_come_back_as_they_were(store: Store):
    mine = item(1, key="alice", answer={"labels": [{"label": "café", "probability": 0.5}]})
    write(store, mine, item(2))
    first, second = store.items()
    assert first == Item(**{**{name: getattr(mine, name) for name in mine.__slots__}, "number": 1})
    assert second.request == "r-2"
    assert store.find("r-1", 0) == first
    assert store.find("r-1", 1) is None


def test_only_the_owner_can_read(store: Store, tmp_path: Path):
    write(store, item())
    assert stat.S_IMODE((tmp_path / "captures").stat().st_mode) == 0o700
    for path in (tmp_path / "captures").iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_limits_of_hours_and_days_hold_over_all_writers(store: Store, tmp_path: Path):
    limits = Limits(hourly=3, daily=5)
    written = write(store, *map(item, range(2)), limits=limits)
    assert (sum(written.kept.values()), written.closed) == (2, {})
    with Store(tmp_path / "captures") as other:
        written = write(other, *map(item, range(4)), limits=limits)
        assert sum(written.kept.values()) == 1
        written = write(other, item(), limits=limits)
        assert written.closed == {("classifier", "random"): 20_000 * DAY + 10 * HOUR}
        written = write(other, *map(item, range(4)), limits=limits, now=MORNING + HOUR)
        assert sum(written.kept.values()) == 2
        written = write(other, item(), limits=limits, now=MORNING + 2 * HOUR)
        assert written.closed == {("classifier", "random"): 20_001 * DAY}
        assert sum(write(other, item(), limits=limits, now=MORNING + DAY).kept.values()) == 1
    # Each strategy of each model has limits of its own.
    assert sum(write(store, item(strategy="labels"), item(model="other"), limits=limits).kept.values()) == 2


def test_deleted_items_do_not_reopen_a_limit(store: Store):
    write(store, item(), limits=Limits(1, 1))
    store.delete(Selection(model="classifier"))
    assert not write(store, item(), limits=Limits(1, 1)).kept


def test_the_oldest_give_way(store: Store):
    for number in range(300):
        written = write(store, item(number), most=50_000)
    kept = [each.request for each in store.items()]
    assert kept[-1] == "r-299"
    assert kept == [f"r-{number}" for number in range(300 - len(kept), 300)]
    assert 40_000 < written.bytes["classifier"] <= 50_000
    assert store.sizes()["classifier"] == (len(kept), written.bytes["classifier"])
    # One that is larger than the ring is gone at once.
    write(store, item(300, content=bytes(100_000)), most=50_000)
    assert list(store.items()) == []


def test_the_file_stays_near_the_bound(store: Store, tmp_path: Path):
    for number in range(400):
        write(store, item(number, content=os.urandom(20_000)), most=1_000_000)
    store.clean()
    assert sum(path.stat().st_size for path in (tmp_path / "captures").iterdir()) < 1_600_000


def test_what_is_deleted_is_gone_from_the_disk(store: Store, tmp_path: Path):
    secret = b"the face of a person" * 500
    write(store, item(1, content=secret), item(2), item(3, request="r-1", index=1, content=secret))
    store.add_feedback([Feedback("r-1", 0, "", {"truth": "alice"}, MORNING, MORNING + DAY, "classifier", "1", "alice")])
    assert b"the face of a person" in everything(tmp_path / "captures")
    assert store.delete(Selection(request="r-1")) == (2, 1)
    left = everything(tmp_path / "captures")
    assert b"the face" not in left
    assert b"alice" not in left
    assert [each.request for each in store.items()] == ["r-2"]


def test_deletion_says_so_if_a_reader_keeps_the_log(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("service.capture.database._BUSY_SECONDS", 0.1)
    write(store, *map(item, range(5)))
    reader = sqlite3.connect(tmp_path / "captures" / FILE)
    reader.execute("BEGIN")
    assert reader.execute("SELECT count(*) FROM items").fetchone() == (5,)
    with Store(tmp_path / "captures") as other, pytest.raises(Unusable, match="give the same command again"):
        other.delete(Selection(model="classifier"))
    reader.close()
    assert store.delete(Selection(model="classifier")) == (0, 0)


def test_selections(store: Store):
    write(store, item(1), item(2, version="2"), item(3, strategy="labels"), item(4, time=MORNING + 5))

    def found(**fields: object) -> list[str]:
        return [each.request for each in store.items(Selection(**fields))]  # type: ignore[arg-type]

    assert found(version="2") == ["r-2"]
    assert found(strategy="labels") == ["r-3"]
    assert found(since=MORNING + 1) == ["r-4"]
    assert found(until=MORNING + 1, version="1") == ["r-1", "r-3"]
    assert found(model="' OR 1 --") == []


def test_time_ends_everything(store: Store, tmp_path: Path):
    write(store, item(1, content=b"secret" * 100), item(2, expires=MORNING + 2 * DAY))
    store.add_feedback([Feedback("r-9", 0, "", {"right": True}, MORNING, MORNING + 10)])
    assert store.delete_expired(MORNING) == 0
    assert store.delete_expired(MORNING + DAY) == 2
    assert [each.request for each in store.items()] == ["r-2"]
    assert store.waiting_feedback() == []
    assert b"secret" not in everything(tmp_path / "captures")


WRITER = """
    import sys, time
    from pathlib import Path
    from tests.service.capture.test_store import item, write
    from service.capture.store import Store

    with Store(Path(sys.argv[1]), create=True) as store:
        for number in range(int(sys.argv[2])):
            write(store, *(item(number, request=f"{sys.argv[3]}-{number}", content=bytes(30_000)) for _ in range(3)))
            print(number, flush=True)
"""


def start(folder: Path, count: int, name: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(WRITER), folder, str(count), name], cwd=ROOT, stdout=subprocess.PIPE
    )


def test_several_processes_write_at_once(tmp_path: Path):
    processes = [start(tmp_path, 20, name) for name in "ab"]
    for process in processes:
        process.communicate(timeout=120)
        assert process.returncode == 0
    with Store(tmp_path) as store:
        assert len(list(store.items())) == 120


def test_other_connections_take_no_locks_away(tmp_path: Path):
    """Of the same process, which POSIX's locks do not tell apart, and of one that takes itself for the last."""
    command = (
        "import sys; from pathlib import Path; from service.capture.store import Store; "
        "print(len(list(Store(Path(sys.argv[1])).items())))"
    )
    with Store(tmp_path, create=True) as store:
        write(store, item(1))
        Store(tmp_path, create=True).close()
        for number in (2, 3):
            other = subprocess.run([sys.executable, "-c", command, tmp_path], cwd=ROOT, capture_output=True, text=True)
            assert other.stdout.strip() == str(number - 1), other.stderr
            write(store, item(number))
        assert (tmp_path / f"{FILE}-wal").exists()
    with Store(tmp_path) as store:
        assert len(list(store.items())) == 3


def test_after_a_kill_whatever_was_written_is_readable(tmp_path: Path):
    for turn in range(3):
        process = start(tmp_path, 100_000, f"k{turn}")
        assert process.stdout is not None
        for _ in range(5 + turn):
            process.stdout.readline()
        time.sleep(0.003 * turn)
        process.send_signal(signal.SIGKILL)
        written = 5 + turn + len(process.stdout.read().splitlines())
        process.stdout.close()
        process.wait()
        with Store(tmp_path, create=True) as store:
            mine = [each for each in store.items() if each.request.startswith(f"k{turn}-")]
            # Whole transactions: what was reported, and perhaps one more.
            assert len(mine) in (3 * written, 3 * written + 3)
            assert all(len(each.content) == 30_000 for each in mine)
    database = sqlite3.connect(tmp_path / FILE)
    assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    database.close()
