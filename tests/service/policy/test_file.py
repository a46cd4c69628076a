"""serving.toml: lines in errors, atomic changes that keep comments, the audit log."""

import datetime
import fcntl
import json
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from service.policy import file
from service.policy.file import (
    AUDIT,
    FILE,
    InvalidPolicy,
    PolicyFiles,
    ReadOnly,
    edit_policy,
    parse_policy,
    read_audit,
    read_policy,
)
from service.policy.policy import Canary, CanaryStep, Policy, Shadow, utc_now

COMMENTED = """\
# Who to ask: the vision team
load = 2  # the newest two

default = "stable"

[aliases]
stable = "1"  # since the summer
"""


def test_without_a_file_the_newest_version_answers(tmp_path: Path):
    assert read_policy(tmp_path / FILE) == Policy()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("load = 0", 'line 1: load: use "latest"'),
        ("\nload = [", "line 2"),
        ("a = 1", "line 1: a: there is no such key"),
        ("load = 1\n\n[canary]\nversion = '2'\n\nshare = 7\n", "line 6: canary.share: Input should be less"),
        ("[aliases]\nbest = '1'\n# comment\nWorst = '2'\n", "line 1: aliases: 'Worst' cannot be an alias"),
        (
            "[canary]\nversion = 2\nshare = 0.5\n[canary.withdraw]\nerors = 0.1",
            "line 5: canary.withdraw.erors: there is",
        ),
        ("load = 2\ndefault = 'stable'", "line 2: default: 'stable' is neither a version nor an alias"),
        ("default = 1\n[shadow]\nversion = 1", "line 2: shadow: version 1 is the default already"),
        ("# \xff", "line 1: it is not UTF-8"),
        ("load = [\n'x1']", "line 1: load: use"),
        ("[aliases]\nbest = '../1'", "line 2: aliases.best: '../1' is not the number of a version"),
        ("load = 1\n" + "a." * 5000 + "a = 1", "line 2: it has more than 64 dots"),
        ("# a\nload = " + "1" * 5000, "line 2: a number is too long"),
        ("[aliases]\n" + "".join(f"a{number} = 1\n" for number in range(100)), "line 1: aliases: Dictionary should"),
        (f"load = {list(range(100))}", "line 1: load: use"),
        ("[canary]\nversion = 2\nsteps = [{ share = 0.5, minutes = 1e9 }]", "line 3: canary.steps.minutes"),
        ("#" * 64_001, "is over 64000 bytes"),
        ("a = " + "[" * 5000, "serving.toml"),
    ],
)
def test_an_invalid_file_names_the_line(text: str, says: str, tmp_path: Path):
    (tmp_path / FILE).write_bytes(text.encode("latin-1"))
    with pytest.raises(InvalidPolicy) as caught:
        read_policy(tmp_path / FILE)
    assert str(caught.value).startswith("serving.toml")
    assert says in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("name", [FILE, AUDIT, ".serving.lock"])
@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: path.symlink_to(path)])
def test_what_is_no_file_keeps_nobody_waiting(make: Callable[[Path], object], name: str, tmp_path: Path):
    (tmp_path / "m").mkdir()
    make(tmp_path / "m" / name)
    files = PolicyFiles(tmp_path)
    if name == FILE:
        with pytest.raises(InvalidPolicy, match=r"serving\.toml cannot be read"):
            files.read("m")
    with pytest.raises((ReadOnly, InvalidPolicy)):
        files.edit("m", lambda policy: policy.model_copy(update={"load": 2}), actor="a", action="b")
    assert not (tmp_path / "m" / FILE).is_file()
    assert files.audit("m") == []


def test_a_lock_that_another_program_keeps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(file, "_LOCK_SECONDS", 0.05)
    (tmp_path / "m").mkdir()
    with (tmp_path / "m" / ".serving.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(ReadOnly, match=r"another program keeps \.serving\.lock locked"):
            PolicyFiles(tmp_path).edit("m", lambda policy: policy, actor="a", action="b")


@pytest.mark.parametrize(
    "text",
    [
        # Forms that tomlkit cannot change.
        "# who\n[canary.withdraw]\nafter = 5\n[canary]\nversion = 2\nshare = 0.5\n",
        "# who\ncanary.version = 2\ncanary.share = 0.5\ndefault = 1\n",
        "# who\ncanary.version = 2\ncanary.steps = [{ share = 0.5, minutes = 1 },\n{ share = 1 }]\ndefault = 1\n# end",
        "# who\r\naliases = { stable = 1 }\r\n",
    ],
)
def test_any_form_of_a_policy_can_be_changed(text: str, tmp_path: Path):
    path = tmp_path / FILE
    path.write_text(text)
    trial = Canary(version="3", steps=(CanaryStep(share=0.05, minutes=10), CanaryStep(share=1)), started=utc_now())
    for changed in (trial, None, trial.model_copy(update={"steps": (), "share": 0.5})):
        edited = edit_policy(path, lambda policy, canary=changed: policy.model_copy(update={"canary": canary}))
        assert read_policy(path) == edited
        assert "# who" in path.read_text()


def test_a_change_keeps_comments_and_order(tmp_path: Path):
    path = tmp_path / FILE
    path.write_text(COMMENTED)
    trial = Canary(version="next", steps=(CanaryStep(share=0.05, minutes=10), CanaryStep(share=1)), started=utc_now())
    changed = edit_policy(
        path, lambda policy: policy.model_copy(update={"aliases": {**policy.aliases, "next": "2"}, "canary": trial})
    )
    assert read_policy(path) == changed
    assert path.read_text().startswith(COMMENTED + 'next = "2"\n')
    restored = edit_policy(path, lambda policy: policy.model_copy(update={"aliases": {"stable": "1"}, "canary": None}))
    assert restored == parse_policy(COMMENTED.encode())
    assert "# Who to ask: the vision team" in path.read_text()
    assert "canary" not in path.read_text()


def test_a_change_keeps_what_it_does_not_concern(tmp_path: Path):
    path = tmp_path / FILE
    text = """\
load = "latest"   # agreed with operations
default = 1       # not in quotes

[aliases]
# for the app
app = 1

[canary]
version = 2
share = 0.05
started = 2026-11-30T10:00:00Z
[canary.withdraw]
after = 100       # the default too
latency = 2.0     # twice
errors = 0.1
"""
    path.write_text(text)
    trial = read_policy(path).canary

    def withdraw(**fields: object) -> Canary:
        return trial.model_copy(update={"withdraw": trial.withdraw.model_copy(update=fields)})

    for canary, written in (
        (trial, text),
        (withdraw(unfamiliar=0.5), text + "unfamiliar = 0.5\n"),
        (withdraw(after=5), text.replace("100       #", "5       #")),
        (withdraw(latency=None), text.replace("latency = 2.0     # twice\n", "")),
        (None, text.partition("[canary]")[0]),
    ):
        path.write_text(text)
        edit_policy(path, lambda policy, canary=canary: policy.model_copy(update={"load": 2, "canary": canary}))
        assert path.read_text().split() == written.replace('"latest"', "2").split()


def test_a_change_that_is_no_policy_is_not_written(tmp_path: Path):
    path = tmp_path / FILE
    path.write_text(COMMENTED)
    with pytest.raises(ValueError, match="neither a version nor an alias"):
        edit_policy(path, lambda policy: policy.model_copy(update={"default": "none"}))
    assert path.read_text() == COMMENTED
    assert not (tmp_path / AUDIT).exists()


def test_concurrent_changes_are_all_kept(tmp_path: Path):
    path = tmp_path / FILE

    def add(number: int) -> None:
        alias = {f"alias-{number}": str(number)}
        edit_policy(path, lambda policy: policy.model_copy(update={"aliases": {**policy.aliases, **alias}}))

    threads = [threading.Thread(target=add, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(read_policy(path).aliases) == 12
    assert sorted(os.listdir(tmp_path)) == [".serving.lock", AUDIT, FILE]


def test_the_audit_log(tmp_path: Path):
    files = PolicyFiles(tmp_path)
    files.edit("m", lambda policy: policy.model_copy(update={"default": "1"}), actor="alice", action="pin 1")
    files.edit("m", lambda policy: policy, actor="bob", action="nothing")
    files.edit(
        "m", lambda policy: policy.model_copy(update={"shadow": Shadow(version="2")}), actor="eve", action="shadow"
    )
    last, first = files.audit("m")
    assert (first["actor"], first["action"], first["before"], first["after"]) == (
        "alice",
        "pin 1",
        {},
        {"default": "1"},
    )
    assert (last["before"], last["after"]["shadow"]) == ({"default": "1"}, {"version": "2"})
    assert files.audit("m", 1) == [last]
    assert files.audit("other") == []


def test_an_audit_log_that_others_have_written(tmp_path: Path):
    path = tmp_path / AUDIT
    entry = {"time": "", "actor": "a", "action": "b", "before": {}, "after": {}}
    lines = ["[" * 50_000, "5", "{}", json.dumps({**entry, "actor": 1}), "\0" * 100, json.dumps(entry)]
    with path.open("w") as log:
        log.truncate(1 << 30)
        log.seek(0, os.SEEK_END)
        log.write("\n" + "\n".join(lines))
    assert read_audit(path, 10) == [entry]


def test_a_state_folder_takes_precedence(tmp_path: Path):
    models, state = tmp_path / "models", tmp_path / "state"
    (models / "m").mkdir(parents=True)
    (models / "m" / FILE).write_text(COMMENTED)
    files = PolicyFiles(models, state)
    assert files.read("m") == parse_policy(COMMENTED.encode())
    files.edit("m", lambda policy: policy.model_copy(update={"load": 3}), actor="a", action="b")
    assert (models / "m" / FILE).read_text() == COMMENTED
    assert (state / "m" / FILE).read_text() == COMMENTED.replace("load = 2", "load = 3")
    assert files.read("m").load == 3


def test_a_folder_that_cannot_be_written_names_the_file(tmp_path: Path):
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "m").write_text("no folder")
    with pytest.raises(ReadOnly, match=r"models/m/serving\.toml where it comes from, or set QUARTET_STATE"):
        PolicyFiles(tmp_path / "models").edit("m", lambda policy: policy, actor="a", action="b")


def test_a_canary_without_a_start_begins_when_it_is_first_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    noon = datetime.datetime(2026, 11, 30, 12, tzinfo=datetime.UTC)
    times = iter(noon + datetime.timedelta(hours=hour) for hour in range(10))
    monkeypatch.setattr(file, "utc_now", lambda: next(times))
    path = tmp_path / "m" / FILE
    path.parent.mkdir()
    text = "[canary]\nversion = 2\nshare = 0.1\n"
    path.write_text(text)
    os.utime(path, (1_000_000, 1_000_000))
    files = PolicyFiles(tmp_path)
    assert files.read("m").canary.started == files.read("m").canary.started == noon
    # A change that changes nothing does not write it, another one does.
    assert files.edit("m", lambda policy: policy, actor="a", action="b").canary.started == noon
    assert path.read_text() == text
    monkeypatch.setattr(file, "utc_now", lambda: noon + datetime.timedelta(days=1))
    files.edit("m", lambda policy: policy.model_copy(update={"load": 2}), actor="a", action="b")
    assert files.read("m").canary.started == PolicyFiles(tmp_path).read("m").canary.started == noon
    # Another canary begins anew, and so does the same one after it has ended.
    path.write_text(text)
    assert files.read("m").canary.started == noon + datetime.timedelta(days=1)
    monkeypatch.setattr(file, "utc_now", lambda: noon + datetime.timedelta(days=2))
    path.write_text(text.replace("0.1", "0.2"))
    assert files.read("m").canary.started == noon + datetime.timedelta(days=2)
    monkeypatch.setattr(file, "utc_now", lambda: noon + datetime.timedelta(days=3))
    path.write_text("")
    files.read("m")
    path.write_text(text)
    assert files.read("m").canary.started == noon + datetime.timedelta(days=3)
