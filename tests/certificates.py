"""Certificates for tests, which sign themselves, made by the command openssl."""

import shutil
import ssl
import subprocess
from pathlib import Path

import pytest

needs_openssl = pytest.mark.skipif(not shutil.which("openssl"), reason="the command openssl is not installed")


def write_certificate(folder: Path, *, days: int = 90, passphrase: str = "") -> tuple[Path, Path]:
    """Writes the certificate `cert.pem` of localhost and its key `key.pem` into a folder; returns both paths.

    Both are there before either is replaced, as tools that renew certificates do it.
    """
    folder.mkdir(exist_ok=True)
    certificate, key = folder / "cert.pem", folder / "key.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"),
            *("-keyout", f"{key}.new", "-out", f"{certificate}.new", "-days", str(days), "-subj", "/CN=localhost"),
            *("-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"),
            *(("-passout", f"pass:{passphrase}") if passphrase else ("-nodes",)),
        ],
        check=True,
        capture_output=True,
    )
    for path in (certificate, key):
        Path(f"{path}.new").replace(path)
    return certificate, key


def trusting(certificate: Path) -> ssl.SSLContext:
    """A client's context that trusts a certificate alone."""
    return ssl.create_default_context(cafile=certificate)


def fingerprint(host: str, port: int) -> str:
    """The certificate that a server presents to a new connection."""
    return ssl.get_server_certificate((host, port), timeout=10)
