"""The options of trainings and of commands on published models, from the dataclasses that they are read into."""

import dataclasses
import re
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import tyro

from docs.generate.tables import table, with_code
from training.command_line import describe_defaults
from training.options import Options
from training.registry import RECIPES, options_type


def recipes_in_markdown() -> str:
    """The options that all trainings have, and those of each task."""
    common = rows(Options)
    sections = [f"## All tasks\n\n{_table(common)}"]
    for task, entry in RECIPES.items():
        if entry.options.startswith("training."):  # not one of another package that is installed beside
            kind = options_type(task)
            own = [row for row in rows(kind) if row not in common]
            sections.append(
                f"## {task}\n\nTrains on {entry.about}.{with_code(describe_defaults(kind))}\n\n{_table(own)}"
            )
    return "\n".join(sections)


def about(kind: type[Any]) -> str:
    """The first paragraphs of a dataclass's docstring."""
    return (kind.__doc__ or "").partition("Attributes:")[0]


def rows(kind: type[Any]) -> list[tuple[str, str, str]]:
    """Each option, its default and what it does."""
    return list(_rows(kind))


def _rows(kind: type[Any]) -> Iterator[tuple[str, str, str]]:
    hints = typing.get_type_hints(kind, include_extras=True)
    texts = _texts(kind)
    for each in dataclasses.fields(kind):
        hint = hints[each.name]
        inner, markers = (get_args(hint)[0], get_args(hint)[1:]) if get_origin(hint) is Annotated else (hint, ())
        if dataclasses.is_dataclass(inner):
            yield from _rows(typing.cast(type[Any], inner))
        elif tyro.conf.Suppress not in markers:
            metavar = next((found for marker in markers if (found := getattr(marker, "metavar", None))), None)
            positional = tyro.conf.Positional in markers
            option = metavar if positional else _option(each.name, inner, each.default, metavar)
            yield f"`{option}`", _default(each.default), with_code(texts[each.name].rstrip("."))


def _option(name: str, hint: Any, default: Any, metavar: str | None) -> str:
    dashed = name.replace("_", "-")
    if hint is bool:
        return f"--{dashed}, --no-{dashed}" if default is True else f"--{dashed}"
    return f"--{dashed} {metavar or _values(hint)}"


def _values(hint: Any) -> str:
    """What may stand for a value."""
    if get_origin(hint) is Literal:
        return "|".join(map(str, get_args(hint)))
    if get_origin(hint) is tuple:
        inner = get_args(hint)
        return f"{_values(inner[0])},…" if inner[-1] is Ellipsis else ",".join(map(_values, inner))
    if kinds := [each for each in get_args(hint) if each is not type(None)]:  # a union, or a type with markers
        return "|".join(_values(each) for each in kinds if not isinstance(each, str))
    return {int: "N", float: "NUMBER", Path: "PATH"}.get(hint, "TEXT")


def _default(value: Any) -> str:
    if value in (None, (), "", dataclasses.MISSING) or value is False:
        return ""
    if value is True:
        return "on"
    return f"`{','.join(map(str, value)) if isinstance(value, tuple) else value}`"


def _texts(kind: type[Any]) -> dict[str, str]:
    """What the docstrings of a class and of those that it extends say about their attributes."""
    texts: dict[str, str] = {}
    for each in reversed(kind.__mro__):
        described = (each.__dict__.get("__doc__") or "").partition("Attributes:")[2]
        for name, text in re.findall(r"^ +(\w+): (.*(?:\n {9,}.*)*)", described, re.MULTILINE):
            texts[name] = " ".join(text.split())
    return texts


def _table(listed: list[tuple[str, str, str]]) -> str:
    return table(("option", "default", ""), listed)
