"""The commands and their options, from the parsers that read them."""

import argparse
from collections.abc import Iterator, Mapping, Sequence

from docs.generate import options
from docs.generate.tables import table, with_code
from quartet import completion, feedback, keys
from quartet.adopt import command_line as adopt
from quartet.captured import command_line as captured
from quartet.command_line import COMMANDS
from quartet.conformance import command_line as conformance
from quartet.offline import command_line as offline
from quartet.remote import command_line as remote
from quartet.replay import command_line as replay
from service.__main__ import make_parser as make_serve_parser
from training.command_line import PUBLISHED

# Their options are those of the recipes, which have a reference of their own.
_OF_RECIPES = ("train", "inspect")


def in_markdown() -> str:
    """A section for each command but those that train."""
    parsers = dict(_parsers())
    sections: list[str] = []
    for name in COMMANDS:
        title = f"quartet {name}"
        if name in PUBLISHED:
            sections.append(_section(title, options.about(PUBLISHED[name]), options.rows(PUBLISHED[name])))
        elif name in ("keys", "captured"):
            sections += _group(title, "COMMAND", parsers[name])
        elif name not in _OF_RECIPES:
            sections.append(_section(title, parsers[name].description or "", _rows(parsers[name])))
        if name == "models":
            sections += _group(title, "VERB", remote.make_parser("quartet"))
        if name == "adopt":
            sections += _tasks_to_adopt()
    return "\n".join(sections)


def _parsers() -> Iterator[tuple[str, argparse.ArgumentParser]]:
    for top in (
        make_serve_parser("quartet"),
        offline.make_parser("quartet"),
        keys.make_parser("quartet"),
        captured.make_parser("quartet"),
        replay.make_parser("quartet"),
    ):
        yield from _commands_of(top).items()
    yield "adopt", adopt.make_parser("quartet")
    yield "conformance", conformance.make_parser("quartet")
    yield "feedback", feedback.make_parser("quartet")
    yield "completion", completion.make_parser("quartet")


def _commands_of(parser: argparse.ArgumentParser) -> Mapping[str, argparse.ArgumentParser]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return action.choices
    return {}


def _group(title: str, placeholder: str, parser: argparse.ArgumentParser) -> Iterator[str]:
    """A section with the options that all commands of a parser have, and one for each of the commands."""
    rows = {name: _rows(each) for name, each in _commands_of(parser).items()}
    common = [row for row in next(iter(rows.values())) if all(row in own for own in rows.values())]
    yield _section(f"{title} {placeholder}", parser.description or "", common)
    for name, each in _commands_of(parser).items():
        own = [row for row in rows[name] if row not in common]
        yield _section(f"{title} {name}", each.description or "", own)


def _tasks_to_adopt() -> Iterator[str]:
    plain = _rows(adopt.make_parser("quartet"))
    for task in adopt.TASKS:
        if own := [row for row in _rows(adopt.make_parser("quartet", task)) if row not in plain]:
            yield _section(f"quartet adopt --task {task}", "", own)


def _section(title: str, about: str, rows: Sequence[Sequence[str]]) -> str:
    parts = [f"### {title}", with_code(" ".join(about.split()))]
    if rows:
        names = ("argument", "") if len(rows[0]) == 2 else ("argument", "default", "")
        parts.append(table(names, rows))
    return "\n\n".join(part.rstrip("\n") for part in parts if part) + "\n"


def _rows(parser: argparse.ArgumentParser) -> list[tuple[str, str]]:
    rows = []
    for action in parser._actions:
        if isinstance(action, argparse._HelpAction | argparse._SubParsersAction):
            continue
        value = action.metavar or ("|".join(map(str, action.choices)) if action.choices else action.dest.upper())
        words = [*filter(None, [", ".join(action.option_strings)]), *([] if action.nargs == 0 else [str(value)])]
        text = (action.help or "") % {**vars(action), "prog": parser.prog}
        rows.append((f"`{' '.join(words)}`", with_code(text)))
    return rows
