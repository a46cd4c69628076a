"""API keys and their file, in which each stands as its SHA-256 digest.

    [alice]
    sha256 = "…"                     # of the key
    scopes = ["infer"]               # infer, admin, metrics; admin includes the others
    models = ["classifier"]          # without it, all
    expires = 2027-01-01T00:00:00Z
    weight = 2                       # share of a busy model, in relation to other keys
    requests_per_second = 10
    items_per_second = 100
    burst = 5                        # seconds of either rate that may come at once
    capture = false                  # nothing that it sends is kept, whatever the policies say
    previous = { sha256 = "…", until = 2026-12-01T00:00:00Z }  # of a key that was rotated

A key has 256 random bits, so it cannot be guessed, and its digest needs no salt and no slow hash.
"""

import hashlib
import hmac
import logging
import math
import re
import secrets
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from service.access.rates import Limit
from service.files import stamp_of

logger = logging.getLogger("service")

Scope: TypeAlias = Literal["infer", "admin", "metrics"]
NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_PREFIX = "quartet_"  # for scanners that look for secrets in repositories
# Hashing takes time on the event loop.
_LONGEST_KEY = 512


class InvalidKeys(Exception):
    """A key file cannot be read, or says something that it must not."""


def _in_utc(time: object) -> datetime:
    """A date of TOML, or a time with or without a zone, as a time in UTC."""
    if isinstance(time, date) and not isinstance(time, datetime):
        time = datetime(time.year, time.month, time.day)
    if not isinstance(time, datetime):
        raise ValueError("must be a date or a time, without quotation marks")
    return time if time.tzinfo else time.replace(tzinfo=UTC)


_Time = Annotated[datetime, BeforeValidator(_in_utc)]
_Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
_Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Previous(_Part):
    """The key that a rotated one replaces, and when it ends."""

    sha256: _Digest
    until: _Time


class Entry(_Part):
    """What the file says of a key."""

    sha256: _Digest
    scopes: frozenset[Scope] = Field(frozenset({"infer"}), min_length=1)
    models: frozenset[str] | None = None
    expires: _Time | None = None
    # A turn takes as many rounds as the weight says it is smaller than 1.
    weight: float = Field(1.0, ge=0.01, le=100)
    requests_per_second: _Positive | None = None
    items_per_second: _Positive | None = None
    burst: _Positive = 1.0
    capture: Annotated[bool, Field(strict=True)] = True
    previous: Previous | None = None


@dataclass(frozen=True, slots=True)
class Key:
    """A key in use.

    Attributes:
        name: for logs, metrics and the queue.
        scopes: what it may do.
        models: that it may see; None for all.
        weight: of its turns in the queue.
        requests: limits the requests of a second.
        items: limits the items.
        personal: whether it stands for one user, whose requests share a turn in the queue.
        capture: whether what it sends may be kept.
    """

    name: str
    scopes: frozenset[Scope]
    models: frozenset[str] | None = None
    weight: float = 1.0
    requests: Limit | None = None
    items: Limit | None = None
    personal: bool = True
    capture: bool = True

    @property
    def limits(self) -> list[Limit]:
        """Those that there are."""
        return [limit for limit in (self.requests, self.items) if limit is not None]

    def may(self, scope: Scope | None) -> bool:
        """Whether it has a scope; None is one that every key has."""
        return scope is None or scope in self.scopes or "admin" in self.scopes

    def sees(self, model: str) -> bool:
        """Whether it may know of a model."""
        return self.models is None or model in self.models


@dataclass(frozen=True, slots=True)
class Found:
    """A key as it was looked up.

    Attributes:
        key: that has this digest.
        digest: of the secret.
        end: when the secret ends, in seconds since the epoch.
    """

    key: Key
    digest: bytes
    end: float


def new_secret() -> str:
    """A new key."""
    return _PREFIX + secrets.token_urlsafe(32)


def digest_of(secret: str) -> str:
    """The digest that stands for a key, in hexadecimal."""
    return hashlib.sha256(secret.encode()).hexdigest()


def parse_keys(text: str) -> dict[str, Entry]:
    """The entries of a key file.

    Raises:
        InvalidKeys: with the line, and the name of the entry.
    """
    try:
        document = tomllib.loads(text)
    except ValueError as error:  # also of a number with more digits than Python converts
        raise InvalidKeys(f"it is not valid TOML: {error}") from None
    entries: dict[str, Entry] = {}
    names: dict[str, str] = {}
    for name, fields in document.items():
        try:
            if not NAME.fullmatch(name):
                raise ValueError("a name has 1 to 64 letters, digits, dots, hyphens and underscores")
            if not isinstance(fields, Mapping):
                raise ValueError("it is no table: begin with [NAME]")
            entry = entries[name] = Entry.model_validate(fields)
            for sha256 in (entry.sha256, *((entry.previous.sha256,) if entry.previous else ())):
                if (other := names.setdefault(sha256, name)) != name:
                    raise ValueError(f"it has the sha256 of {other}")
        except ValueError as error:
            raise InvalidKeys(f"line {_line_of(name, text)}, {name[:80]!r}: {_explain(error)}") from None
    return entries


def _line_of(name: str, text: str) -> int:
    """The line on which an entry begins."""
    header = re.compile(rf"""\s*(\[\s*)?["']?{re.escape(name)}["']?\s*[\].=]""")
    return next((number for number, line in enumerate(text.splitlines(), 1) if header.match(line)), 1)


def _explain(error: ValueError) -> str:
    if not isinstance(error, ValidationError):
        return str(error)
    first = error.errors(include_input=False)[0]  # an input may be a key that stands in the wrong place
    field = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        return f"there is no field {field!r}; there are {', '.join(Entry.model_fields)}"
    if first["type"] == "missing":
        return f"{field} is missing"
    hint = " (64 hexadecimal digits in lower case)" if field.endswith("sha256") else ""
    return f"{field}: {first['msg'].removeprefix('Value error, ')}{hint}"


class KeyRing:
    """The keys that open the gate.

    Args:
        path: the key file; None if there is none.
        share: of each key's rates that this process grants: a client's connections are spread over all of them.
        generated: digest of a key that was made at the start, in hexadecimal; it may do everything.

    Attributes:
        known: the Authorization headers that were found to hold a key, for the gate to remember. Whoever knows none of
            them learns nothing from the time of a look-up: Python compares a header only with one of the same hash,
            which depends on a secret of the process.

    Raises:
        InvalidKeys: the file cannot be read or is invalid.
    """

    def __init__(self, path: Path | None = None, *, share: float = 1.0, generated: str | None = None) -> None:
        self._path = path
        self._share = share
        self._keys: Mapping[bytes, Found] = {}
        self.known: dict[bytes | None, Found] = {}
        self._limits: dict[tuple[str, str], Limit] = {}
        self._seen: object = None
        self._problem: str | None = None
        if path is not None:
            self._seen = self._stamp(path)
            self._keys = self._read(path)
        elif generated is not None:
            digest = bytes.fromhex(generated)
            everything: frozenset[Scope] = frozenset({"infer", "admin", "metrics"})
            self._keys = {digest: Found(Key("generated", everything, personal=False), digest, math.inf)}

    def find(self, secret: bytes) -> Found | None:
        """The key of a secret; None if there is none. It may have ended.

        The digest is looked up first. What the time of that look-up tells about other digests is of no use, since
        nobody can choose a secret with a given digest.
        """
        if len(secret) > _LONGEST_KEY:
            return None
        digest = hashlib.sha256(secret).digest()
        found = self._keys.get(digest)
        return found if found is not None and hmac.compare_digest(found.digest, digest) else None

    def ends(self) -> dict[str, float]:
        """When keys end, by name, in seconds since the epoch; keys without an end are left out."""
        ends: dict[str, float] = {}
        for found in self._keys.values():  # a rotated key is found by two secrets
            ends[found.key.name] = max(found.end, ends.get(found.key.name, 0.0))
        return {name: end for name, end in ends.items() if end < math.inf}

    def refresh(self) -> None:
        """Reads the file again if it has changed. If it is invalid, the keys stay as they are, and the log says why."""
        if self._path is None:
            return
        try:
            seen = self._stamp(self._path)
            if seen == self._seen:
                return
            self._keys = self._read(self._path)
            # Requests that are being checked fill the old one.
            self.known = {}
            self._seen = seen
            self._problem = None
            logger.info("read the keys in %s again", self._path)
        except InvalidKeys as error:
            if self._problem != str(error):  # once, not every second
                self._problem = str(error)
                logger.error("the keys stay as they were: %s", error)

    @staticmethod
    def _stamp(path: Path) -> tuple[int, ...]:
        try:
            return stamp_of(path)
        except OSError as error:
            raise InvalidKeys(f"{path} cannot be read: {error.strerror}") from None

    def _read(self, path: Path) -> Mapping[bytes, Found]:
        entries = read_keys(path)
        # What has been taken from a rate stays taken, also when the rate changes.
        due = {place: limit.due for place, limit in self._limits.items()}
        self._limits = {}
        found: dict[bytes, Found] = {}
        for name, entry in entries.items():
            for end_of in self._ends(name, entry, due):
                found[end_of.digest] = end_of
        return found

    def _ends(self, name: str, entry: Entry, due: Mapping[tuple[str, str], float]) -> Iterable[Found]:
        """The secrets of an entry: its own, and the one that it replaces."""

        def limit(unit: str, rate: float | None) -> Limit | None:
            if rate is None:
                return None
            made = self._limits[name, unit] = Limit(unit, rate * self._share, entry.burst)
            made.due = due.get((name, unit), 0.0)
            return made

        key = Key(
            name,
            entry.scopes,
            entry.models,
            entry.weight,
            limit("requests", entry.requests_per_second),
            limit("items", entry.items_per_second),
            capture=entry.capture,
        )
        expires = entry.expires.timestamp() if entry.expires else math.inf
        yield Found(key, bytes.fromhex(entry.sha256), expires)
        if entry.previous is not None:
            until = entry.previous.until.timestamp()
            yield Found(key, bytes.fromhex(entry.previous.sha256), min(expires, until))


def read_keys(path: Path) -> dict[str, Entry]:
    """The entries of a key file.

    Raises:
        InvalidKeys: it cannot be read or is invalid.
    """
    try:
        return parse_keys(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidKeys(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InvalidKeys(f"{path} is not UTF-8") from None
    except InvalidKeys as error:
        raise InvalidKeys(f"{path}: {error}") from None
