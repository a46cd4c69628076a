"""serving.toml: lines in errors, atomic changes that keep comments, the audit log."""

import os
import threading
from pathlib import Path

import pytest

from service.policy.file import (
    AUDIT,
    FILE,
    InvalidPolicy,
    PolicyFiles,
    ReadOnly,
    edit_policy,
    parse_policy,
    read_policy,
)
from service.policy.policy import Canary, Policy, Shadow, Step, utc_now

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
        ("a = " + "[" * 5000, "serving.toml"),
    ],
)
def test_an_invalid_file_names_the_line(text: str, says: str):
    with pytest.raises(InvalidPolicy) as caught:
        parse_policy(text.encode("latin-1"))
    assert str(caught.value).startswith("serving.toml")
    assert says in str(caught.value)


def test_a_change_keeps_comments_and_order(tmp_path: Path):
    path = tmp_path / FILE
    path.write_text(COMMENTED)
    trial = Canary(version="next", steps=(Step(share=0.05, minutes=10), Step(share=1)), started=utc_now())
    changed = edit_policy(
        path, lambda policy: policy.model_copy(update={"aliases": {**policy.aliases, "next": "2"}, "canary": trial})
    )
    assert read_policy(path) == changed
    assert path.read_text().startswith(COMMENTED + 'next = "2"\n')
    restored = edit_policy(path, lambda policy: policy.model_copy(update={"aliases": {"stable": "1"}, "canary": None}))
    assert restored == parse_policy(COMMENTED.encode())
    assert "# Who to ask: the vision team" in path.read_text()
    assert "canary" not in path.read_text()


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


def test_a_canary_without_a_start_began_with_the_file(tmp_path: Path):
    path = tmp_path / FILE
    path.write_text("[canary]\nversion = 2\nshare = 0.1\n")
    os.utime(path, (1_000_000, 1_000_000))
    started = read_policy(path).canary.started
    assert started.timestamp() == 1_000_000
    assert edit_policy(path, lambda policy: policy.model_copy(update={"load": 2})).canary.started == started
