"""Which column of an input a model reads, and which columns are carried over into the output."""

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from quartet.offline.scoring.sources import IMAGE_SUFFIXES, MissingColumn, UnusableJob

# Default columns of an image or its path.
_IMAGE_COLUMNS = ("image", "path")
# Texts to read have this many words or characters on average; names and categories have fewer, or are repeated.
_WORDS, _CHARACTERS = 3, 12
_SHOWN = 10


def choose_columns(
    takes: tuple[str, ...] | None,
    given: str | None,
    usual: Sequence[str],
    found: Sequence[str] | None,
    sample: Callable[[], Sequence[Mapping[str, Any]]],
    operation: str,
) -> tuple[str, ...]:
    """The columns of an input that items are made from, in the order of `takes`.

    Args:
        takes: the columns that the operation reads; None if it reads images.
        given: the column that the user named.
        usual: other names of the only column, the likeliest first.
        found: the columns of the input; None if they are unknown.
        sample: returns the first rows of the input.
        operation: its name, for messages.

    Raises:
        MissingColumn: a required column is missing.
        UnusableJob: a column was named, but several are read.
    """
    names = takes or ("image",)
    if given and len(names) > 1:
        raise UnusableJob(f"{operation} reads several columns: leave --column out.")
    wanted = (given,) if given else names
    if not given and len(names) == 1:
        rows: Sequence[Mapping[str, Any]] = ()
        if found is None or not {*usual, *names} & {*found}:
            rows = sample()
            found = found or list(dict.fromkeys(name for row in rows for name in row)) or None
        if found is not None:
            wanted = (find_column(names[0], usual, found, rows),)
    if found is not None and (missing := [name for name in wanted if name not in found]):
        plural = "s" if len(missing) > 1 else ""
        raise MissingColumn(f"The input lacks the column{plural} {', '.join(missing)}; it has {listed(found)}.")
    return wanted


def find_column(kind: str, usual: Sequence[str], found: Sequence[str], sample: Sequence[Mapping[str, Any]]) -> str:
    """The column of the images or texts: one with a usual name, the only one, or the only one that fits.

    Args:
        kind: `image` or `text`; of any other input, no column is guessed.
        usual: names, the likeliest first.
        found: the columns of the input.
        sample: the first rows.

    Raises:
        MissingColumn: it is not clear which one; names the columns.
    """
    names: tuple[str, ...] = (*usual, *(_IMAGE_COLUMNS if kind == "image" else (kind,)))
    if known := [name for name in names if name in found]:
        return known[0]
    fits = {"image": _are_images, "text": _are_texts}.get(kind)
    fitting = [
        name for name in found if fits and fits([row[name] for row in sample if row.get(name) not in (None, "")])
    ]
    if len(fitting) == 1:
        return fitting[0]
    if len(found) == 1 and kind == "text":
        return found[0]
    several = f"; {' and '.join(map(repr, fitting[:_SHOWN]))} may be meant" if fitting else ""
    raise MissingColumn(
        f"The input lacks the column {' or '.join(_IMAGE_COLUMNS) if kind == 'image' else kind}; it has "
        f"{listed(found)}{several}: name one with --column."
    )


def choose_carried(
    wanted: Sequence[str] | None,
    found: Sequence[str] | None,
    usual: Iterable[str],
    read: Sequence[str],
    taken: Iterable[str],
) -> dict[str, str]:
    """The columns that are carried over: their names in the output by those in the input.

    A column with the name of one of the output's is called `input_…` there.

    Args:
        wanted: columns that the user named; None for the usual ones that are not read.
        found: all columns; None if they are unknown.
        usual: the columns that are carried over by default.
        read: the columns that the model reads.
        taken: names of the output's own columns.

    Raises:
        UnusableJob: there is no such column.
    """
    chosen = list(dict.fromkeys([name for name in usual if name not in read] if wanted is None else wanted))
    if found is not None and (missing := [name for name in chosen if name not in found]):
        near = [name for name in found if name.casefold() == missing[0].casefold()]
        near = near or difflib.get_close_matches(missing[0], found, n=1, cutoff=0.7)
        hint = f"did you mean {near[0]!r}?" if near else f"it has {listed(found)}."
        raise UnusableJob(f"--keep: the input has no column {missing[0]!r}: {hint}")
    names, used = {}, set(taken)
    for name in chosen:
        there = name
        while there in used or (there != name and there in chosen):
            there = f"input_{there}"
        used.add(there)
        names[name] = there
    return names


def listed(names: Sequence[str]) -> str:
    """Some names, and how many more there are."""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _are_texts(values: Sequence[Any]) -> bool:
    if not values or not all(isinstance(value, str) for value in values):
        return False
    if len(set(values)) <= len(values) / 2 or not any(any(map(str.isalpha, value)) for value in values):
        return False
    words, characters = (sum(map(len, each)) / len(values) for each in (map(str.split, values), values))
    return words >= _WORDS or (characters >= _CHARACTERS and not all(map(str.isascii, values)))


def _are_images(values: Sequence[Any]) -> bool:
    return bool(values) and all(
        isinstance(value, bytes)
        or (isinstance(value, Mapping) and bool(value.keys() & {"bytes", "path"}))
        or (isinstance(value, str) and value.lower().endswith(IMAGE_SUFFIXES))
        for value in values
    )
