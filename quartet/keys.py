"""quartet keys: adds, lists, rotates and revokes the API keys in a file."""

import argparse
import os
import re
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quartet.console import fail
from quartet.extras import needs
from quartet.offline.tables import format_table

if TYPE_CHECKING:
    from service.access.keys import Entry

_SCOPES = ("infer", "admin", "metrics")
_UNITS = {"m": "minutes", "h": "hours", "d": "days"}


class _Refused(Exception):
    """A change that is not made."""


def main(arguments: Sequence[str] | None = None, prog: str = "quartet") -> int:
    """Runs the command.

    Args:
        arguments: the command line, from `keys` on; None for that of the process.
        prog: the program's name in help and usage messages.

    Returns:
        0, or 1 if the file cannot be changed.
    """
    options = make_parser(prog).parse_args(arguments)
    with needs("server"):
        from service.access.keys import InvalidKeys
    try:
        _ACTIONS[options.action](options)
    except (InvalidKeys, _Refused) as error:
        return fail(1, f"{error}.")
    except OSError as error:
        return fail(1, f"{options.file}: {error.strerror}.")
    return 0


def make_parser(prog: str) -> argparse.ArgumentParser:
    """The parser of the command line."""
    parser = argparse.ArgumentParser(prog=prog, description="Manages the API keys of a server.")
    keys = parser.add_subparsers(metavar="COMMAND", required=True).add_parser(
        "keys",
        description="Adds, lists, rotates and revokes the API keys in a file. A server whose QUARTET_KEYS names it "
        "follows it within a second.",
    )
    actions = keys.add_subparsers(title="commands", metavar="COMMAND", dest="action", required=True)

    def add(name: str, summary: str, more: str = "") -> argparse.ArgumentParser:
        action = actions.add_parser(name, help=summary, description=f"{summary[0].upper()}{summary[1:]}.{more}")
        action.add_argument(
            "--file", type=Path, metavar="FILE", default=Path(os.environ.get("QUARTET_KEYS") or "keys.toml"),
            help="the key file (default: QUARTET_KEYS, or keys.toml)",
        )  # fmt: skip
        return action

    shown = " The key is printed, and shown at no other time: the file has its digest."
    new = add("add", "make a key", shown)
    new.add_argument("name", help="for logs, metrics and this command")
    new.add_argument(
        "--scope", action="append", choices=_SCOPES, dest="scopes",
        help="what it may do; can be given again (default: infer); admin includes the others",
    )  # fmt: skip
    new.add_argument("--model", action="append", dest="models", help="may be asked; can be given again (default: all)")
    new.add_argument("--expires", type=_time, metavar="TIME", help="90d, 12h, or a date such as 2027-01-31")
    new.add_argument("--weight", type=float, help="its share of a busy model, in relation to other keys (default: 1)")
    new.add_argument("--requests-per-second", type=float, metavar="N")
    new.add_argument("--items-per-second", type=float, metavar="N")
    new.add_argument("--burst", type=float, metavar="SECONDS", help="of a rate that may come at once (default: 1)")
    new.add_argument(
        "--no-capture", action="store_const", const=False, dest="capture",
        help="nothing that it sends is kept, whatever [capture] of a model says",
    )  # fmt: skip
    add("list", "list the keys and what they may do")
    rotate = add("rotate", "replace a key by a new one; the old one ends later", shown)
    rotate.add_argument("name")
    rotate.add_argument(
        "--overlap", type=_duration, default=timedelta(days=1), metavar="TIME",
        help="how long the old key is still valid, such as 30m or 7d (default: 1d)",
    )  # fmt: skip
    add("revoke", "remove a key").add_argument("name")
    return parser


def _duration(text: str) -> timedelta:
    found = re.fullmatch(r"(\d{1,5})([mhd])", text)
    if not found and text != "0":
        raise argparse.ArgumentTypeError(f"{text!r} is no time: write 30m, 12h or 90d")
    return timedelta(**{_UNITS[found[2]]: int(found[1])}) if found else timedelta()


def _time(text: str) -> datetime:
    if re.fullmatch(r"\d+[mhd]", text):
        return _from_now(_duration(text))
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no time: write 90d, 12h or 2027-01-31") from None
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def _from_now(duration: timedelta) -> datetime:
    return datetime.now(UTC).replace(microsecond=0) + duration


def _add(options: argparse.Namespace) -> None:
    from service.access.edit import edit_keys
    from service.access.keys import NAME, digest_of, new_secret

    if not NAME.fullmatch(options.name):
        raise _Refused(f"{options.name!r} is no name: it has 1 to 64 letters, digits, dots, hyphens and underscores")
    secret = new_secret()
    names = ("models", "expires", "weight", "requests_per_second", "items_per_second", "burst", "capture")
    given = {name: value for name in names if (value := getattr(options, name)) is not None}

    def change(document: Any) -> None:
        if options.name in document:
            raise _Refused(f"there is a key {options.name!r} already: rotate or revoke it")
        document[options.name] = {"sha256": digest_of(secret), "scopes": options.scopes or ["infer"], **given}

    edit_keys(options.file, change)
    _show(secret)


def _rotate(options: argparse.Namespace) -> None:
    from service.access.edit import edit_keys
    from service.access.keys import digest_of, new_secret

    secret = new_secret()
    until = _from_now(options.overlap)

    def change(document: Any) -> None:
        entry = _entry(document, options)
        before = entry.get("sha256")
        entry.pop("previous", None)
        entry["sha256"] = digest_of(secret)
        if options.overlap:
            entry["previous"] = {"sha256": before, "until": until}

    edit_keys(options.file, change)
    _show(secret)
    print(
        f"The old key {f'is valid until {until:%Y-%m-%d %H:%M} UTC' if options.overlap else 'has ended'}.",
        file=sys.stderr,
    )


def _revoke(options: argparse.Namespace) -> None:
    from service.access.edit import edit_keys

    def change(document: Any) -> None:
        _entry(document, options)
        del document[options.name]

    edit_keys(options.file, change)
    print(f"A server that follows {options.file} refuses it within a second.", file=sys.stderr)


def _list(options: argparse.Namespace) -> None:
    from service.access.keys import read_keys

    entries = read_keys(options.file)
    print("\n".join(format_table([_row(name, entry) for name, entry in entries.items()])))


def _row(name: str, entry: "Entry") -> dict[str, str]:
    ends = "never" if entry.expires is None else _ended(entry.expires)
    if entry.previous and entry.previous.until > datetime.now(UTC):
        ends += f"; the old one {_ended(entry.previous.until)}"
    rates = [
        f"{rate:g} {unit}/s"
        for rate, unit in ((entry.requests_per_second, "requests"), (entry.items_per_second, "items"))
        if rate
    ]
    models = "all" if entry.models is None else ",".join(sorted(entry.models)) or "none"
    return {
        "name": name,
        "scopes": ",".join(sorted(entry.scopes)),
        "models": models,
        "ends": ends,
        "weight": f"{entry.weight:g}",
        "rates": ", ".join(rates),
        "captured": "" if entry.capture else "never",
    }


def _ended(time: datetime) -> str:
    ended = time <= datetime.now(UTC)
    return f"{time:%Y-%m-%d %H:%M}{' (has ended)' if ended else ''}"


def _entry(document: Mapping[str, Any], options: argparse.Namespace) -> Any:
    if options.name not in document:
        there = ", ".join(document) or "none"
        raise _Refused(f"{options.file} has no key {options.name!r}; there are {there}")
    return document[options.name]


def _show(secret: str) -> None:
    """The key alone goes to stdout, so that a script can take it from there."""
    print("The key; it is not shown again:", file=sys.stderr)
    print(secret)


_ACTIONS = {"add": _add, "list": _list, "rotate": _rotate, "revoke": _revoke}
