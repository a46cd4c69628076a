"""quartet keys: what it writes, what it prints, and what it leaves as it was."""

import multiprocessing
import stat
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from quartet.command_line import main
from service.access.keys import KeyRing, digest_of, read_keys
from tests.server import ROOT


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("QUARTET_KEYS", str(tmp_path / "keys.toml"))
    return tmp_path / "keys.toml"


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What a command prints to stdout."""
    assert main(["keys", *arguments]) == 0
    return capsys.readouterr().out


def test_a_key_is_made_and_opens(file: Path, capsys: pytest.CaptureFixture[str]):
    secret = run(capsys, "add", "alice").strip()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert secret not in file.read_text()
    assert read_keys(file)["alice"].sha256 == digest_of(secret)
    assert KeyRing(file).find(secret.encode()).key.scopes == {"infer"}


def test_what_a_key_may_do(file: Path, capsys: pytest.CaptureFixture[str]):
    options = "--scope infer --scope metrics --model a --model b --expires 2030-01-31 --weight 2"
    rates = "--requests-per-second 10 --items-per-second 0.5 --burst 30"
    run(capsys, "add", "al.ice", *options.split(), *rates.split())
    entry = read_keys(file)["al.ice"]
    assert (entry.scopes, entry.models, entry.weight) == ({"infer", "metrics"}, {"a", "b"}, 2)
    assert entry.expires == datetime(2030, 1, 31, tzinfo=UTC)
    assert (entry.requests_per_second, entry.items_per_second, entry.burst) == (10, 0.5, 30)
    listed = run(capsys, "list")
    for words in ("al.ice", "infer,metrics", "a,b", "2030-01-31", "10 requests/s, 0.5 items/s"):
        assert words in listed
    assert entry.sha256 not in listed


def test_a_rotated_key_overlaps(file: Path, capsys: pytest.CaptureFixture[str]):
    old = run(capsys, "add", "alice", "--expires", "90d").strip()
    new = run(capsys, "rotate", "alice", "--overlap", "2h").strip()
    ring = KeyRing(file)
    assert ring.find(old.encode()).key is ring.find(new.encode()).key
    left = ring.find(old.encode()).end - datetime.now(UTC).timestamp()
    assert 7100 < left <= 7200
    assert "the old one" in run(capsys, "list")
    newer = run(capsys, "rotate", "alice", "--overlap", "0").strip()
    ring = KeyRing(file)
    assert [ring.find(secret.encode()) is not None for secret in (old, new, newer)] == [False, False, True]
    assert read_keys(file)["alice"].expires - datetime.now(UTC) > timedelta(days=89)


def test_a_revoked_key_is_gone_and_comments_stay(file: Path, capsys: pytest.CaptureFixture[str]):
    file.write_text(f'# our keys\n[bob]  # the other team\nsha256 = "{digest_of("b")}"\n')
    run(capsys, "add", "alice")
    run(capsys, "revoke", "alice")
    assert read_keys(file).keys() == {"bob"}
    assert file.read_text().startswith("# our keys\n[bob]  # the other team\n")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["add", "bob"], "there is a key 'bob' already: rotate or revoke it."),
        (["add", "a b"], "'a b' is no name"),
        (["add", "alice", "--weight", "0"], "'alice': weight: "),
        (["rotate", "alice"], "has no key 'alice'; there are bob."),
        (["revoke", "alice"], "has no key 'alice'; there are bob."),
    ],
)
def test_what_cannot_be_done_changes_nothing(
    file: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], says: str
):
    run(capsys, "add", "bob")
    before = file.read_text()
    assert main(["keys", *arguments]) == 1
    captured = capsys.readouterr()
    assert says in captured.err
    assert captured.out == ""
    assert file.read_text() == before
    assert sorted(path.name for path in file.parent.iterdir()) == [".keys.toml.lock", "keys.toml"]


def test_a_file_with_a_mistake_is_left_alone(file: Path, capsys: pytest.CaptureFixture[str]):
    for text, says in (("[alice]\n", "sha256 is missing"), ("[alice\n", "line 1"), ("\udcff", "not UTF-8")):
        file.write_bytes(text.encode(errors="surrogateescape"))
        assert main(["keys", "add", "bob"]) == 1
        assert says in capsys.readouterr().err
        assert file.read_bytes() == text.encode(errors="surrogateescape")


@pytest.mark.parametrize(
    "arguments", [["add", "x", "--expires", "soon"], ["rotate", "x", "--overlap", "1w"], [], ["add"]]
)
def test_a_wrong_option_is_told(file: Path, arguments: list[str]):
    with pytest.raises(SystemExit) as ended:
        main(["keys", *arguments])
    assert ended.value.code == 2


def test_a_link_is_followed(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "elsewhere").mkdir()
    file.symlink_to(tmp_path / "elsewhere" / "real.toml")
    run(capsys, "add", "alice")
    assert file.is_symlink()
    assert read_keys(tmp_path / "elsewhere" / "real.toml").keys() == {"alice"}


def test_two_commands_at_once_both_count(file: Path):
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        assert pool.map(main, [["keys", "add", f"key{number}"] for number in range(12)]) == [0] * 12
    assert len(read_keys(file)) == 12


def test_it_imports_nothing_of_the_models():
    code = (
        "import sys; from quartet.command_line import main\n"
        "main(['keys', 'list', '--file', sys.argv[1]])\n"
        "print({'numpy', 'fastapi', 'onnxruntime', 'torch'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code, "/nowhere"], cwd=ROOT, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("set()\n", "error: /nowhere cannot be read: No such file or directory.\n")
