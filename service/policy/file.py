"""`serving.toml` on disk: read, changed atomically with its comments kept, and its changes recorded."""

import contextlib
import errno
import fcntl
import json
import logging
import os
import re
import stat
import threading
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from pydantic import ValidationError

from service.errors import truncate
from service.files import replace_file
from service.policy.policy import Canary, Policy, utc_now

logger = logging.getLogger(__name__)

FILE, AUDIT = "serving.toml", "audit.jsonl"
_LOCK = ".serving.lock"
# The fields of an entry of the audit log.
_ENTRY = {"time": str, "actor": str, "action": str, "before": dict, "after": dict}
_MOST_BYTES = 64_000
# Parsing takes the square of a key's parts. A policy needs three.
_MOST_DOTS = 64
_MOST_REASON = 300
# What is read from the end of an audit log.
_TAIL_BYTES = 1 << 16
# How long a change waits for others, which take milliseconds.
_LOCK_SECONDS, _LOCK_PAUSE_SECONDS = 10.0, 0.01

Change = Callable[[Policy], Policy]


class InvalidPolicy(Exception):
    """A policy cannot be used; the message names the line."""


class ReadOnly(Exception):
    """The policy cannot be written; the message names the file to edit."""


class Policies(Protocol):
    """Where the repository finds the policy of each model."""

    def read(self, model: str) -> Policy:
        """The policy of a model; the default one if it has none.

        Raises:
            InvalidPolicy: it cannot be used.
        """


class FixedPolicy:
    """The same policy for every model."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy

    def read(self, model: str) -> Policy:  # noqa: ARG002
        """See `Policies`."""
        return self._policy


class PolicyFiles:
    """The policies of the models in a folder.

    The steps of a canary whose file does not say when it started begin when it is first read here. The time of the file
    would be no substitute: an old file, copied to a new server, would be a canary that has ended.

    Args:
        models: the models folder.
        state: holds `<name>/serving.toml` and takes precedence over `models`; None: the policies are in `models`.
    """

    def __init__(self, models: Path, state: Path | None = None) -> None:
        self._models = models
        self._state = state
        # By model; policies are read on several threads.
        self._begun: dict[str, tuple[Canary, Canary]] = {}
        self._lock = threading.Lock()

    def path(self, model: str) -> Path:
        """The file that holds the policy, or would."""
        if self._state and (self._state / model / FILE).exists():
            return self._state / model / FILE
        return self._models / model / FILE

    def read(self, model: str) -> Policy:
        """See `Policies`."""
        return self._dated(model, read_policy(self.path(model)))

    def _dated(self, model: str, policy: Policy) -> Policy:
        """The policy with the start of its canary."""
        canary = policy.canary
        with self._lock:
            if canary is None or canary.started is not None:
                self._begun.pop(model, None)
                return policy
            as_written, begun = self._begun.get(model, (None, canary))
            if as_written != canary:
                begun = canary.model_copy(update={"started": utc_now()})
                self._begun[model] = canary, begun
        return policy.model_copy(update={"canary": begun})

    def writable(self, model: str) -> bool:
        """Whether `edit` can write the policy."""
        folder = self._state or self._models / model
        return os.access(folder, os.W_OK)

    def edit(self, model: str, change: Change, *, actor: str, action: str) -> Policy:
        """Changes a policy and records that in the audit log beside it.

        Args:
            model: name of the model.
            change: gives the new policy.
            actor: who changes it.
            action: in a few words.

        Raises:
            InvalidPolicy: the file on disk cannot be used.
            ReadOnly: it cannot be written.
        """

        def dated(policy: Policy) -> Policy:
            begun = self._dated(model, policy)
            changed = change(begun)
            return policy if changed == begun else changed

        source = self.path(model)
        target = (self._state or self._models) / model / FILE
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            return self._dated(model, edit_policy(target, dated, actor=actor, action=action, source=source))
        except OSError as error:
            raise ReadOnly(
                f"{target} cannot be written ({error.strerror}): edit {source} where it comes from, or set "
                "QUARTET_STATE to a writable folder for the policies."
            ) from error

    def audit(self, model: str, most: int = 100) -> list[dict[str, Any]]:
        """The last changes of a policy, the newest first."""
        return read_audit(self.path(model).with_name(AUDIT), most)


def read_policy(path: Path) -> Policy:
    """The policy in a file; the default policy if there is no file.

    Raises:
        InvalidPolicy: it cannot be used.
    """
    return _read(path)[0]


def _read(path: Path) -> tuple[Policy, bytes]:
    """The policy in a file, and what the file holds."""
    try:
        with _open(path, os.O_RDONLY) as file:
            content = file.read(_MOST_BYTES + 1)
    except FileNotFoundError:
        return Policy(), b""
    except OSError as error:
        raise InvalidPolicy(f"{path.name} cannot be read: {error.strerror}") from error
    if len(content) > _MOST_BYTES:
        raise InvalidPolicy(f"{path.name} is over {_MOST_BYTES} bytes")
    return parse_policy(content, path.name), content


def parse_policy(content: bytes, name: str = FILE) -> Policy:
    """The policy that a TOML document holds.

    Raises:
        InvalidPolicy: it is no policy; the message starts with `name` and the line.
    """
    for at, raw in enumerate(content.splitlines(), 1):
        if raw.count(b".") > _MOST_DOTS:
            raise InvalidPolicy(f"{name}, line {at}: it has more than {_MOST_DOTS} dots")
    try:
        text = content.decode()
        return Policy.model_validate(_parse(text, name))
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise InvalidPolicy(f"{name}, line {line}: it is not UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        place = re.search(r"line (\d+)", str(error))
        line = int(place[1]) if place else text.count("\n") + 1
        reason = re.sub(r" \(at [^)]*\)$", "", str(error))
        raise InvalidPolicy(f"{name}, line {line}: {truncate(reason, _MOST_REASON)}") from None
    except RecursionError:
        raise InvalidPolicy(f"{name}: it is nested too deeply") from None
    except ValidationError as error:
        first = error.errors()[0]
        location = [part for part in first["loc"] if isinstance(part, str)]
        reason = first["msg"].removeprefix("Value error, ")
        if location[:1] == ["load"]:  # the rest of the location says which alternative did not match
            location, reason = ["load"], 'use "latest", a number of versions up to 64, or a list of at most 64 versions'
        if first["type"] == "extra_forbidden":
            reason = "there is no such key"
        if not location and (named := re.match(r"(default|canary|shadow): ", reason)):
            location = [named[1]]
        elif location:
            reason = f"{'.'.join(location)}: {reason}"
        raise InvalidPolicy(f"{name}, line {line_of(text, location)}: {truncate(reason, _MOST_REASON)}") from None


def _parse(text: str, name: str) -> dict[str, Any]:
    """A TOML document.

    Raises:
        TOMLDecodeError: it is none.
        InvalidPolicy: it has a number of more digits than Python converts, 4300.
    """
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        raise
    except ValueError:
        lines = text.splitlines()
        longest = max(range(len(lines)), key=lambda number: len(lines[number]))
        raise InvalidPolicy(f"{name}, line {longest + 1}: a number is too long") from None


def line_of(text: str, location: Sequence[str]) -> int:
    """The line (from 1) where a value is set in a TOML document; that of the nearest table if its key is not found."""
    best, depth = 1, 0
    table: tuple[str, ...] = ()
    for number, line in enumerate(text.splitlines(), 1):
        if header := re.match(r"\s*\[+\s*([^\]#]+?)\s*\]+", line):
            table = tuple(part.strip(" \"'") for part in header[1].split("."))
            path = table
        elif key := re.match(r"\s*([\w.\"'-]+)\s*=", line):
            path = (*table, *(part.strip(" \"'") for part in key[1].split(".")))
        else:
            continue
        if path == tuple(location[: len(path)]) and len(path) > depth:
            best, depth = number, len(path)
    return best


def edit_policy(
    path: Path, change: Change, *, actor: str = "file", action: str = "edit", source: Path | None = None
) -> Policy:
    """Changes a policy file atomically. Comments stay, and the audit log beside it gets an entry.

    Args:
        path: of the file; created if it does not exist.
        change: gives the new policy; concurrent changes come one after another.
        actor: who changes it.
        action: in a few words.
        source: the file to start from, if it is another one.

    Returns:
        The new policy.

    Raises:
        InvalidPolicy: the file on disk cannot be used.
        OSError: it cannot be written.
    """
    with _locked(path.with_name(_LOCK)):
        before, content = _read(source or path)
        after = Policy.model_validate(change(before).model_dump())
        if after == before:
            return after
        entry = {
            "time": utc_now().isoformat(),
            "actor": actor,
            "action": action,
            "before": _plain(before),
            "after": _plain(after),
        }
        # Opened first: a change that cannot be recorded is not made.
        with _open(path.with_name(AUDIT), os.O_WRONLY | os.O_APPEND | os.O_CREAT) as log:
            replace_file(path, _merge(content.decode(), after).encode(), 0o644)
            log.write(json.dumps(entry, default=str).encode() + b"\n")
    return after


def read_audit(path: Path, most: int) -> list[dict[str, Any]]:
    """The last entries of an audit log, the newest first."""
    try:
        with _open(path, os.O_RDONLY) as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - _TAIL_BYTES))
            lines = file.read(_TAIL_BYTES).splitlines()
    except OSError:
        return []
    entries = []
    for line in reversed(lines):
        # The first line may be the end of a longer one, and anybody may have written the others.
        with contextlib.suppress(ValueError, RecursionError):
            entry = json.loads(line)
            if (
                isinstance(entry, dict)
                and _ENTRY.items() <= {name: type(value) for name, value in entry.items()}.items()
            ):
                entries.append(entry)
    return entries[:most]


def _open(path: Path, flags: int) -> BinaryIO:
    """Opens a regular file; anything else, such as a named pipe, could keep its reader waiting forever.

    Raises:
        OSError: it cannot be opened.
    """
    descriptor = os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC, 0o644)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "it is not a file")
        return open(descriptor, "ab" if flags & os.O_APPEND else "r+b" if flags & os.O_RDWR else "rb")
    except BaseException:
        os.close(descriptor)
        raise


def _plain(policy: Policy) -> dict[str, Any]:
    """The fields of a policy that are set, as TOML and JSON write them."""
    return policy.model_dump(exclude_defaults=True, exclude_none=True)


def _merge(text: str, policy: Policy) -> str:
    """The document with the values of a policy, its own comments and order, and what it says of defaults."""
    before = _plain(parse_policy(text.encode()))
    for write in (_updated, _rewritten):
        try:
            written = write(text, _plain(policy), before)
            if parse_policy(written.encode()) == policy:
                return written
        except Exception:  # tomlkit fails on some tables that are out of order and on some dotted keys
            logger.debug("the policy is not changed by %s", write.__name__, exc_info=True)
    raise AssertionError(f"the policy cannot be written as it is: {policy!r}")


def _updated(text: str, values: Mapping[str, Any], before: Mapping[str, Any]) -> str:
    import tomlkit  # only changes need it

    document = tomlkit.parse(text)
    _update(document, values, before)
    return tomlkit.dumps(document)


def _rewritten(text: str, values: Mapping[str, Any], _before: Mapping[str, Any]) -> str:
    """A new document, with the lines of comments at its head."""
    import tomlkit

    document = tomlkit.document()
    _update(document, values, {})
    comments = [f"{line.strip()}\n" for line in text.splitlines() if line.lstrip().startswith("#")]
    return "".join(comments) + tomlkit.dumps(document)


def _update(table: Any, values: Mapping[str, Any], before: Mapping[str, Any]) -> None:
    """Writes what differs from the values before. What else the table says stays, as values that are the default."""
    for key in before.keys() - values.keys():
        del table[key]
    for key, value in values.items():
        if isinstance(value, Mapping) and isinstance(table.get(key), Mapping):
            _update(table[key], value, before.get(key, {}))
        elif value != before.get(key):
            table[key] = list(value) if isinstance(value, tuple) else value


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    end = time.monotonic() + _LOCK_SECONDS
    with _open(path, os.O_RDWR | os.O_CREAT) as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # ends with the file
                break
            except BlockingIOError:
                if time.monotonic() > end:
                    raise OSError(errno.EAGAIN, f"another program keeps {path.name} locked") from None
                time.sleep(_LOCK_PAUSE_SECONDS)
        yield
