"""The certificate of the server and its private key, which are replaced without a restart."""

import _ssl
import logging
import ssl
import stat
import time
from pathlib import Path

from service.files import stamp_of
from service.settings import Settings

logger = logging.getLogger("service")

_Stamp = tuple[tuple[int, ...] | None, ...]


class InvalidCertificate(Exception):
    """A certificate cannot be used; one line says why and what to do."""


class Certificate:
    """A certificate and its private key, in files that may be replaced at any time.

    Args:
        certificate: a PEM file with the certificate, followed by those between it and its root.
        key: a PEM file with its private key, without a passphrase. It may be the same file.

    Attributes:
        context: for new connections; connections that exist keep the one that they began with.
        pem: the content of both files, the key first.
        ends: when the certificate expires, in seconds since the epoch.

    Raises:
        InvalidCertificate: the files cannot be read, or do not belong together.
    """

    def __init__(self, certificate: Path, key: Path) -> None:
        self._certificate, self._key = certificate, key
        self._seen = self._tried = self._stamp()
        self._load()

    def refresh(self) -> None:
        """Loads the files if they have changed. If they cannot be used, the certificate stays as it was.

        Files that have changed since the last call are left for the next: one may have been written before the other.
        """
        stamp = self._stamp()
        settled, self._seen = stamp == self._seen, stamp
        if stamp == self._tried or not settled:
            return
        self._tried = stamp
        try:
            self._load()
        except InvalidCertificate as error:
            logger.warning("the renewed certificate is not used, the one before stays: %s", error)
        else:
            logger.info("the certificate was renewed, and expires on %s", _date(self.ends))

    def warn(self) -> None:
        """Logs what is wrong with a certificate that can be used all the same."""
        if self.ends < time.time():
            logger.warning("%s expired on %s: clients will refuse it", self._certificate, _date(self.ends))
        if self._key.stat().st_mode & stat.S_IROTH:
            logger.warning("every user of this machine can read the private key: chmod o-r %s", self._key)

    def _stamp(self) -> _Stamp:
        return tuple(_stamp_if_there(path) for path in (self._certificate, self._key))

    def _load(self) -> None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.options |= ssl.OP_NO_RENEGOTIATION
        context.set_alpn_protocols(["http/1.1"])
        key = _read(self._key, b"PRIVATE KEY-----", "private key")
        chain = _read(self._certificate, b"-----BEGIN CERTIFICATE-----", "certificate")

        def refuse_passphrase() -> str:
            raise InvalidCertificate(f"{self._key} has a passphrase: remove it with `openssl pkey -in FILE -out FILE`.")

        try:
            context.load_cert_chain(self._certificate, self._key, refuse_passphrase)
            # There is no public function that reads a certificate.
            found = _ssl._test_decode_cert(str(self._certificate))  # type: ignore[attr-defined]
            ends = ssl.cert_time_to_seconds(found["notAfter"])
        except ssl.SSLError as error:
            if error.reason == "KEY_VALUES_MISMATCH":
                why = f"{self._key} is not the private key of {self._certificate}."
            else:
                why = f"OpenSSL cannot use {self._certificate} with {self._key}: {error.reason or error}."
            raise InvalidCertificate(why) from None
        except OSError as error:
            raise InvalidCertificate(f"{self._certificate}, {self._key}: {error.strerror}.") from None
        self.context, self.pem, self.ends = context, (key, chain), float(ends)


def certificate_of(settings: Settings) -> Certificate | None:
    """The certificate that the settings name; None without TLS."""
    return Certificate(settings.tls_cert, settings.tls_key) if settings.tls_cert and settings.tls_key else None


def _read(path: Path, mark: bytes, what: str) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InvalidCertificate(f"{path}: {error.strerror}.") from None
    if mark not in content:
        raise InvalidCertificate(f"{path} has no {what} in PEM format.")
    return content


def _stamp_if_there(path: Path) -> tuple[int, ...] | None:
    try:
        return stamp_of(path)
    except OSError:
        return None


def _date(seconds: float) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(seconds))
