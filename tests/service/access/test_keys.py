"""The key file: what it may say, how a mistake is told, and how the keys in use follow it."""

import hashlib
import logging
import os
import re
import time
from pathlib import Path

import pytest

from service.access.keys import InvalidKeys, KeyRing, digest_of, new_secret, parse_keys
from tests.keyed import write_keys

A, B = digest_of("a"), digest_of("b")


def test_a_secret_has_256_bits_and_stands_for_itself_nowhere():
    secrets = {new_secret() for _ in range(100)}
    assert len(secrets) == 100
    for secret in secrets:
        assert re.fullmatch(r"quartet_[A-Za-z0-9_-]{43}", secret)
        assert digest_of(secret) == hashlib.sha256(secret.encode()).hexdigest()


def test_what_an_entry_says():
    entries = parse_keys(
        f"""
        [alice]
        sha256 = "{A}"
        scopes = ["infer", "metrics"]
        models = ["classifier"]
        expires = 2030-01-02
        weight = 2
        requests_per_second = 10
        items_per_second = 0.5
        burst = 5
        previous = {{ sha256 = "{B}", until = 2030-01-01T12:00:00+01:00 }}
        ["bob.x"]
        sha256 = "{digest_of("c")}"
        """
    )
    alice, bob = entries.values()
    assert alice.expires.isoformat() == "2030-01-02T00:00:00+00:00"
    assert alice.previous.until.timestamp() == 1893495600
    assert (alice.scopes, alice.models) == ({"infer", "metrics"}, {"classifier"})
    assert (bob.scopes, bob.models, bob.expires, bob.weight) == ({"infer"}, None, None, 1)
    assert parse_keys("") == {}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[a]\nsha256 = x", r"not valid TOML: .*line 2"),
        (f"[a]\nweight = {'1' * 5000}", "not valid TOML"),
        (f'[a]\nsha256 = "{A}"\n[a]\nsha256 = "{B}"', r"not valid TOML: .*line 3"),
        ("\n\n[a]\n", r"line 3, 'a': sha256 is missing"),
        (
            f'# [a]\n[a]\nsha256 = "{A}"\nscope = ["infer"]',
            r"line 2, 'a': there is no field 'scope'; there are sha256, ",
        ),
        ('[a]\nsha256 = "quartet_secret"', r"line 1, 'a': sha256: .*64 hexadecimal digits"),
        (f'[a]\nsha256 = "{A}x"', r"64 hexadecimal digits"),
        (f'[a]\nsha256 = "{A}\\n"', r"64 hexadecimal digits"),
        (f'[a]\nsha256 = "{A}"\nscopes = ["root"]', r"scopes.*'infer', 'admin' or 'metrics'"),
        (f'[a]\nsha256 = "{A}"\nscopes = []', r"scopes"),
        (f'[a]\nsha256 = "{A}"\nmodels = "classifier"', r"models"),
        (f'[a]\nsha256 = "{A}"\nexpires = "never"', r"expires: must be a date or a time"),
        (f'[a]\nsha256 = "{A}"\nexpires = 1893495600', r"expires: must be a date or a time"),
        (f'[a]\nsha256 = "{A}"\nweight = 0', r"weight"),
        (f'[a]\nsha256 = "{A}"\nweight = nan', r"weight"),
        (f'[a]\nsha256 = "{A}"\nrequests_per_second = 0', r"requests_per_second"),
        (f'[a]\nsha256 = "{A}"\nitems_per_second = inf', r"items_per_second"),
        (f'[a]\nsha256 = "{A}"\nprevious = {{ sha256 = "{B}" }}', r"previous.until is missing"),
        (f'[a]\nsha256 = "{A}"\n\n["b"]\nsha256 = "{A}"', r"line 4, 'b': it has the sha256 of a"),
        (f'["a b"]\nsha256 = "{A}"', r"line 1, 'a b': a name has"),
        (f'["a\\nb"]\nsha256 = "{A}"', r"a name has"),
        (f'[a.b]\nsha256 = "{A}"', r"line 1, 'a'"),
        ("a = 3", r"line 1, 'a': it is no table"),
    ],
)
def test_a_mistake_is_told_with_its_place(text: str, says: str):
    with pytest.raises(InvalidKeys, match=says) as refusal:
        parse_keys(text)
    assert "quartet_secret" not in str(refusal.value)


def change(path: Path, text: str) -> None:
    path.write_text(text)
    os.utime(path, ns=(time.time_ns(), path.stat().st_mtime_ns + 1_000_000))


def test_the_ring_follows_the_file(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO)
    path = write_keys(tmp_path / "keys.toml", alice={}, bob={})
    ring = KeyRing(path)
    assert ring.find(b"alice").key.name == "alice"
    assert ring.find(b"carol") is None
    assert ring.find(digest_of("alice").encode()) is None
    before = path.read_text()
    change(path, before + "[carol]\n")
    for _ in range(3):
        ring.refresh()
    assert ring.find(b"alice")
    assert [record.levelname for record in caplog.records] == ["ERROR"]  # once
    assert re.search(r"keys\.toml: line \d+, 'carol': sha256 is missing", caplog.text)
    path.unlink()
    ring.refresh()
    assert ring.find(b"alice")
    assert "keys.toml cannot be read: No such file" in caplog.text
    write_keys(path, bob={})
    ring.refresh()
    assert ring.find(b"alice") is None
    assert ring.find(b"bob").key.name == "bob"
    change(path, "")
    ring.refresh()
    assert ring.find(b"bob") is None


def test_a_file_that_is_replaced_by_one_of_the_same_size_and_time_is_read(tmp_path: Path):
    path = write_keys(tmp_path / "keys.toml", alice={})
    ring = KeyRing(path)
    other = write_keys(tmp_path / "other", carol={})
    stat = path.stat()
    os.utime(other, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert other.stat().st_size == stat.st_size
    other.replace(path)
    ring.refresh()
    assert ring.find(b"carol")


def test_without_a_file_there_is_no_ring(tmp_path: Path):
    with pytest.raises(InvalidKeys, match="cannot be read: No such file"):
        KeyRing(tmp_path / "keys.toml")
    with pytest.raises(InvalidKeys, match="cannot be read: Is a directory"):
        KeyRing(tmp_path)
    (tmp_path / "bytes").write_bytes(b"\xff")
    with pytest.raises(InvalidKeys, match="not UTF-8"):
        KeyRing(tmp_path / "bytes")


def test_a_rotated_key_is_the_same_key_until_it_ends(tmp_path: Path):
    previous = f'{{ sha256 = "{digest_of("old")}", until = 2030-01-01T00:00:00Z }}'
    path = write_keys(
        tmp_path / "keys.toml", alice=f"previous = {previous}\nrequests_per_second = 1", bob="expires = 2029-01-01"
    )
    ring = KeyRing(path)
    new, old = ring.find(b"alice"), ring.find(b"old")
    assert new.key is old.key  # with one rate for both
    assert (new.end, old.end) == (float("inf"), 1893456000)
    assert ring.find(b"bob").end == 1861920000


def test_a_rate_is_not_reset_by_a_change_of_the_file(tmp_path: Path):
    path = write_keys(tmp_path / "keys.toml", alice={"requests_per_second": 1})
    ring = KeyRing(path, share=0.5)
    assert not ring.find(b"alice").key.requests.hit(1, 1000.0)
    change(path, path.read_text().replace("= 1", "= 2"))
    ring.refresh()
    limit = ring.find(b"alice").key.requests
    assert limit.due == 1002.0  # at half of the first rate
    assert limit.test(1, 1000.0) == pytest.approx(2.0)


def test_a_long_secret_is_not_hashed(tmp_path: Path):
    path = tmp_path / "keys.toml"
    path.write_text("".join(f'[a{size}]\nsha256 = "{digest_of("x" * size)}"\n' for size in (512, 513)))
    ring = KeyRing(path)
    assert ring.find(b"x" * 512)
    assert ring.find(b"x" * 513) is None
