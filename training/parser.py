"""Parses command lines into dataclasses: tyro, with comma lists, one line for each mistake, and names that changed."""

import contextlib
import dataclasses
import difflib
import functools
import io
import operator
import re
import sys
import typing
from collections.abc import Iterable, Sequence
from types import UnionType
from typing import Annotated, Any, NoReturn, TypeVar, Union

import tyro
from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

OptionsT = TypeVar("OptionsT")

# Accepted for one version; without a number, --freeze freezes all.
_RENAMED = {"--mirror": "--test-time-flip", "--from-scratch": "--weights=none", "--start-from": "--init-from"}
_SHORTER = {
    r"^Missing from .*?: (\S+).*": r"\1 is missing",
    # What a dataclass says of its own values names the option itself.
    r"^Error parsing (?:\S+: (?=--))?": "",
    r"no type matching FLOAT\|\{(\w+)\} could be instantiated from \[('.*?')\]\..*": r"\2 is neither a number nor \1",
    r"could not convert string to float: (.*)": r"\1 is not a number",
    r"invalid literal for int\(\) with base 10: (.*)": r"\1 is not a whole number",
}
# What other tools call an option, or what people try.
_ALIASES = {
    "augmentation": "augment",
    "bs": "batch-size",
    "batch": "batch-size",
    "checkpoint": "init-from",
    "class-weight": "class-weights",
    "cv": "cross-validate",
    "dataset": "data",
    "dtype": "precision",
    "early-stopping": "patience",
    "exist-ok": "yes",
    "folds": "cross-validate",
    "fp16": "precision",
    "gpu": "device",
    "half": "precision",
    "img": "image-size",
    "img-size": "image-size",
    "imgsz": "image-size",
    "input-size": "image-size",
    "jobs": "threads",
    "kfold": "cross-validate",
    "learning-rate": "lr",
    "lr0": "lr",
    "max-epochs": "epochs",
    "max-length": "length",
    "n-jobs": "threads",
    "num-epochs": "epochs",
    "num-threads": "threads",
    "num-train-epochs": "epochs",
    "num-workers": "workers",
    "nthreads": "threads",
    "opt": "optimizer",
    "output": "run-dir",
    "output-dir": "run-dir",
    "overwrite": "yes",
    "per-device-train-batch-size": "batch-size",
    "pretrained": "weights",
    "project": "run-dir",
    "random-state": "seed",
    "size": "image-size",
    "warmup-epochs": "warmup",
    "warmup-ratio": "warmup",
    "wd": "weight-decay",
}
_REGISTRY = ConstructorRegistry()


def parse(
    kind: type[OptionsT], arguments: Sequence[str], prog: str, description: str = "", **known: object
) -> OptionsT:
    """Parses a command line; on a mistake, prints one line and exits with code 2.

    Args:
        kind: a dataclass, or one with dataclasses nested in it. Its docstrings are the help.
        arguments: the options and their values.
        prog: the command before the options.
        description: the first line of the help.
        known: values of fields that are no options here.
    """
    hints = typing.get_type_hints(kind)
    hidden = [
        (name, Annotated[hints[name], tyro.conf.Suppress], dataclasses.field(default=value))
        for name, value in known.items()
    ]
    parsed: Any = dataclasses.make_dataclass(
        kind.__name__, hidden, bases=(kind,), namespace={"__doc__": kind.__doc__}, frozen=True, kw_only=True
    )
    box = io.StringIO()
    try:
        with contextlib.redirect_stderr(box):
            options, unknown = tyro.cli(
                parsed,
                prog=prog,
                description=description or None,
                args=current_names(arguments),
                return_unknown_args=True,
                config=(tyro.conf.OmitArgPrefixes,),
                registry=_REGISTRY,
            )
    except SystemExit as ended:
        if not ended.code:  # --help
            raise
        fail(prog, _unboxed(box.getvalue()))
    if unknown:
        fail(prog, f"{unknown[0]} is unknown{did_you_mean(unknown[0], option_names(parsed))}")
    return kind(**{each.name: getattr(options, each.name) for each in dataclasses.fields(options)})


def fail(prog: str, message: str) -> NoReturn:
    """Prints one line about a mistake on the command line, and exits with code 2."""
    print(f"error: {message}; see {prog} --help", file=sys.stderr)
    sys.exit(2)


def did_you_mean(given: str, names: Iterable[str]) -> str:
    """`: did you mean NAME?` for the name that is most like `given`; empty if none is."""
    known = sorted(names)
    alias = f"--{_ALIASES.get(given.removeprefix('--'), '')}" if given.startswith("--") else ""
    near = [alias] if alias in known else difflib.get_close_matches(given, known, n=1, cutoff=0.65)
    return f": did you mean {near[0]}?" if near else ""


def option_names(kind: type) -> set[str]:
    """The options of a dataclass and of those nested in it, with their aliases and the `--no-` form of flags."""
    names = set()
    for name, hint in typing.get_type_hints(kind, include_extras=True).items():
        inner, *markers = typing.get_args(hint) if typing.get_origin(hint) is Annotated else (hint,)
        if dataclasses.is_dataclass(inner):
            names |= option_names(typing.cast(type, inner))
        elif tyro.conf.Positional not in markers and tyro.conf.Suppress not in markers:
            dashed = name.replace("_", "-")
            names |= {f"--{dashed}"} | ({f"--no-{dashed}"} if inner is bool else set())
            names |= {alias for marker in markers for alias in getattr(marker, "aliases", None) or ()}
    return names


def current_names(arguments: Sequence[str]) -> list[str]:
    """`arguments` with today's names for options that had other ones."""
    given = list(arguments)
    for index, option in enumerate(given):
        name, equals, value = option.partition("=")
        if name.startswith("--"):
            name = name.replace("_", "-")
            given[index] = _RENAMED.get(name, name) + equals + value
        if option == "--freeze" and (index + 1 == len(given) or given[index + 1].startswith("--")):
            given[index] = "--freeze=-1"
    return given


def _unboxed(box: str) -> str:
    # The message stands between the title of tyro's box and the first rule in it.
    _, message, *_ = re.split(r"(?m)^.*[─-]{5}.*$", box)
    message = " ".join(message.replace("│", " ").split()).rstrip(".")
    for pattern, replacement in _SHORTER.items():
        message = re.sub(pattern, replacement, message)
    return message


def _spec_of(kind: Any, info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Any] | None:
    spec = ConstructorRegistry.get_primitive_spec(PrimitiveTypeInfo.make(kind, info.markers))
    return spec if isinstance(spec, PrimitiveConstructorSpec) else None


@_REGISTRY.primitive_rule
def _optional(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Any] | None:
    """`X | None` is parsed as X; None means that the option was not given."""
    kinds = [each for each in typing.get_args(info.type) if each is not type(None)]
    if info.type_origin not in (Union, UnionType) or len(kinds) == len(typing.get_args(info.type)):
        return None
    spec = _spec_of(functools.reduce(operator.or_, kinds), info)
    if spec is None:
        return None
    return dataclasses.replace(
        spec,
        is_instance=lambda value: value is None or spec.is_instance(value),
        str_from_instance=lambda value: ["unset"] if value is None else spec.str_from_instance(value),
    )


@_REGISTRY.primitive_rule
def _list(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Any] | None:
    """A tuple is written as 64,256,256 or as 64 256 256."""
    if info.type_origin is not tuple or tyro.conf.UseAppendAction in info.markers:
        return None
    kinds = typing.get_args(info.type)
    length = None if kinds[-1] is Ellipsis else len(kinds)
    if not (spec := _spec_of(kinds[0], info)):
        return None

    def read(words: list[str]) -> tuple[Any, ...]:
        parts = [part.strip() for part in ",".join(words).split(",") if part.strip()]
        if spec.choices and (wrong := [part for part in parts if part not in spec.choices]):
            raise ValueError(f"{wrong[0]!r} is none of {', '.join(spec.choices)}")
        if length not in (None, len(parts)):
            raise ValueError(f"{','.join(parts)!r}: takes {length} values")
        return tuple(spec.instance_from_str([part]) for part in parts)

    return PrimitiveConstructorSpec(
        nargs="*",
        metavar=",".join([spec.metavar] * (length or 1)) + ("" if length else ",…"),
        instance_from_str=read,
        is_instance=lambda value: isinstance(value, tuple) and all(map(spec.is_instance, value)),
        str_from_instance=lambda value: [
            ",".join(word for each in value for word in spec.str_from_instance(each)) or "none"
        ],
    )
