"""The server's certificate: what cannot be used, what is warned of, and how it is renewed."""

import logging
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from service.certificate import Certificate, InvalidCertificate
from tests.certificates import needs_openssl, write_certificate

pytestmark = needs_openssl


def loaded(folder: Path) -> Certificate:
    return Certificate(folder / "cert.pem", folder / "key.pem")


def test_its_end_is_known(tmp_path: Path):
    """If this fails, Python has another function that reads a certificate."""
    write_certificate(tmp_path, days=30)
    assert abs(loaded(tmp_path).ends - time.time() - 30 * 86400) < 60


def test_both_may_be_in_one_file(tmp_path: Path):
    certificate, key = write_certificate(tmp_path)
    both = tmp_path / "both.pem"
    both.write_bytes(key.read_bytes() + certificate.read_bytes())
    assert Certificate(both, both).pem == (both.read_bytes(), both.read_bytes())


def remove(folder: Path) -> None:
    (folder / "key.pem").unlink()


def swap(folder: Path) -> None:
    (folder / "cert.pem").rename(folder / "other.pem")
    (folder / "key.pem").rename(folder / "cert.pem")
    (folder / "other.pem").rename(folder / "key.pem")


def take_the_key_of_another(folder: Path) -> None:
    _, key = write_certificate(folder / "other")
    key.replace(folder / "key.pem")


def encrypt(folder: Path) -> None:
    write_certificate(folder, passphrase="secret")


def damage(folder: Path) -> None:
    path = folder / "cert.pem"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:2], "????", *lines[3:]]))


BROKEN = [
    (remove, r"key\.pem: No such file or directory\."),
    (swap, r"key\.pem has no private key in PEM format\."),
    (take_the_key_of_another, r"key\.pem is not the private key of .*cert\.pem\."),
    (encrypt, r"key\.pem has a passphrase: remove it with `openssl pkey"),
    (damage, r"OpenSSL cannot use .*cert\.pem with .*key\.pem: "),
]
NAMES = [change.__name__ for change, _ in BROKEN]


@pytest.mark.parametrize(("change", "message"), BROKEN, ids=NAMES)
def test_what_cannot_be_used_is_refused(tmp_path: Path, change: Callable[[Path], None], message: str):
    write_certificate(tmp_path)
    change(tmp_path)
    with pytest.raises(InvalidCertificate, match=message):
        loaded(tmp_path)


@pytest.mark.parametrize(("change", "message"), BROKEN, ids=NAMES)
def test_a_renewed_one_that_cannot_be_used_leaves_the_one_before(
    tmp_path: Path, change: Callable[[Path], None], message: str, caplog: pytest.LogCaptureFixture
):
    write_certificate(tmp_path)
    certificate = loaded(tmp_path)
    before = certificate.context, certificate.pem, certificate.ends
    change(tmp_path)
    for _ in range(5):
        certificate.refresh()
    assert (certificate.context, certificate.pem, certificate.ends) == before
    (record,) = caplog.records  # it is not repeated
    assert record.levelno == logging.WARNING
    assert "the one before stays" in record.message
    write_certificate(tmp_path)
    certificate.refresh()
    certificate.refresh()
    assert certificate.context is not before[0]


def test_a_renewed_one_is_used_once_its_files_have_settled(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO)
    write_certificate(tmp_path, days=10)
    certificate = loaded(tmp_path)
    old = certificate.context
    certificate.refresh()
    path, key = write_certificate(tmp_path / "new", days=20)
    key.replace(tmp_path / "key.pem")
    certificate.refresh()
    assert certificate.context is old  # half of it is there
    path.replace(tmp_path / "cert.pem")
    certificate.refresh()
    assert certificate.context is old
    certificate.refresh()
    assert certificate.context is not old
    assert certificate.ends > time.time() + 15 * 86400
    assert [record.levelname for record in caplog.records] == ["INFO"]


def test_a_key_that_everyone_can_read_is_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    _, key = write_certificate(tmp_path)
    certificate = loaded(tmp_path)
    certificate.warn()
    assert not caplog.records
    os.chmod(key, 0o644)
    certificate.warn()
    assert f"chmod o-r {key}" in caplog.text


def test_a_certificate_that_has_expired_is_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    write_certificate(tmp_path, days=1)
    certificate = loaded(tmp_path)
    certificate.ends = time.time() - 1
    certificate.warn()
    assert "clients will refuse it" in caplog.text
