"""Columns of a table, and the conversion of their values to the numbers that the graph takes.

Training uses the same functions, so training and serving cannot disagree about a row.
"""

import math
import re
import unicodedata
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, timedelta
from functools import partial
from typing import Literal

import numpy as np
from pydantic import Field, model_validator

from service.errors import truncate
from service.inference.cards import Card, Probability, optional

# The largest float32.
LARGEST = float(np.finfo(np.float32).max)
# The number of a word that no training row had.
UNKNOWN = -1.0
# float32 holds every integer up to this one.
LARGEST_INTEGER = 2.0**24

ColumnKind = Literal["number", "boolean", "category", "date"]
# Converts a JSON value or a text cell to the number that the graph takes; NaN if it is missing.
Reader = Callable[[object], float]

# JSON's numbers, and leading zeros, a plus and a point at either end. `float` also takes other digits, 1_000 and nan.
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_DAY = timedelta(days=1)
# Words of a category that an error names.
_WORDS_NAMED = 12


class ColumnCard(Card):
    """A column, with statistics of the training rows.

    Attributes:
        kind: `number`; `boolean`, 0 or 1; `category`, the index of a word in `values`, -1 for any other; or `date`,
            the days since `origin`.
        mean: of the numbers that the graph takes; None for categories, and for a model that was trained elsewhere and
            does not state it. The same holds for `std`, `low` and `high`.
        values: the words of a category, the most frequent first; of a boolean, the word for false and that for true.
        missing_words: words for a missing value, besides an empty cell.
        unit: a sign before or after each number, such as %.
        decimal: the decimal separator of numbers in text.
        group: the thousands separator of numbers in text, if any.
        origin: a Monday before the earliest date.
        date_format: of dates in text, in the notation of `strptime`; ISO 8601 is always read.
        integer: of numbers; another number is an error, as is one beyond ±2²⁴, which float32 cannot hold exactly.
        required: whether a missing value is an error.
        closed: of a category; whether a word that `values` lacks is an error.
    """

    name: str
    kind: ColumnKind = "number"
    mean: float | None = None
    std: float | None = Field(None, ge=0)
    low: float | None = None
    high: float | None = None
    missing: Probability = Field(0.0, description="share of the training rows without a value")
    values: tuple[str, ...] = ()
    missing_words: tuple[str, ...] = ()
    unit: str = ""
    decimal: Literal[".", ","] = "."
    group: str = ""
    origin: date | None = None
    date_format: str = ""
    typical: float | None = optional(None, description="its number in a training row close to the medians")
    integer: bool = optional(False)
    required: bool = optional(False)
    closed: bool = optional(False)

    @model_validator(mode="after")
    def _is_complete(self) -> "ColumnCard":
        if self.kind == "category" and not self.values:
            raise ValueError(f"the category {self.name!r} needs values")
        if self.kind == "boolean" and len(self.values) != 2:
            raise ValueError(f"the boolean {self.name!r} needs two values")
        if self.kind == "date" and self.origin is None:
            raise ValueError(f"the date {self.name!r} needs an origin")
        if self.kind == "date" and self.mean is None:
            raise ValueError(f"the date {self.name!r} needs a mean")
        return self

    @property
    def midnight(self) -> datetime:
        """The beginning of `origin`, of a date."""
        assert self.origin is not None  # noqa: S101 - the validator checks it
        return datetime.combine(self.origin, datetime.min.time())

    @property
    def plain(self) -> bool:
        """Whether the table writes its values as JSON numbers."""
        return self.kind == "number" and (self.unit, self.decimal, self.group) == ("", ".", "")

    @property
    def example(self) -> object:
        """A typical value, as the table writes it; those of all columns are from the same row, if one is known."""
        if self.typical is not None:
            return self.write(self.typical)
        if self.mean is None:
            return self.values[0] if self.values else self.write(0.0)
        return self.write(float(f"{self.mean:.4g}") if self.kind == "number" else round(self.mean))

    def write(self, value: float) -> object:
        """The inverse of `reader_of`: a number of the graph as the table writes it; None if it is missing."""
        if math.isnan(value):
            return None
        if self.kind in ("category", "boolean"):
            return self.values[int(value)] if 0 <= value < len(self.values) else "(unknown)"
        if self.kind == "date":
            moment = self.midnight + value * _DAY
            if self.date_format:
                return moment.strftime(self.date_format)
            return moment.date().isoformat() if value == int(value) else moment.isoformat(timespec="seconds")
        if self.integer:
            return int(value)
        number = float(f"{value:.7g}")
        if self.plain:
            return number
        text = f"{number:.7g}".replace(".", self.decimal)
        return f"{self.unit}{text}" if self.unit and self.unit != "%" else f"{text}{self.unit}"


def key_of(word: str) -> str:
    """Normalises the spelling of a category: case, white space and Unicode composition."""
    return " ".join(unicodedata.normalize("NFC", word).casefold().split())


def parse_number(text: str, card: ColumnCard) -> float | None:
    """Parses a text cell as a number; None if it is not one."""
    if card.unit:
        text = text.removeprefix(card.unit).removesuffix(card.unit).strip()
    if not card.plain:
        text = text.replace("\N{MINUS SIGN}", "-")
        if card.group and card.group in text:
            whole, _, decimals = text.partition(card.decimal)
            if not re.fullmatch(rf"[+-]?[0-9]{{1,3}}({re.escape(card.group)}[0-9]{{3}})+", whole):
                return None
            text = whole.replace(card.group, "") + (f"{card.decimal}{decimals}" if decimals else "")
        if card.decimal != ".":
            text = text.replace(card.decimal, ".") if "." not in text else ""
    return float(text) if _NUMBER.fullmatch(text) else None


def parse_date(text: str, date_format: str) -> datetime | None:
    """Parses a text cell as a naive datetime in UTC; None if it is not one."""
    text = text.strip()
    for form in (date_format, "") if date_format else ("",):
        try:
            return _naive(datetime.strptime(text, form) if form else datetime.fromisoformat(text))
        except (ValueError, OverflowError):  # the year 1 or 9999 may overflow in UTC
            continue
    return None


def reader_of(card: ColumnCard) -> Reader:
    """The reader of a column, which raises ValueError with the reason if a value does not fit it."""
    missing = frozenset(map(key_of, card.missing_words))
    words = {key_of(word): float(index) for index, word in reversed([*enumerate(card.values)])}
    # Words that differ in case alone are told apart as they are written.
    words |= {word: float(index) for index, word in enumerate(card.values)}
    read: Reader = {
        "number": partial(_number, card),
        "boolean": partial(_boolean, card, words),
        "category": partial(_category, card, {"": math.nan, **dict.fromkeys(missing, math.nan), **words}),
        "date": partial(_date, card),
    }[card.kind]

    def read_or_missing(value: object) -> float:
        if value is None or value == "":
            return math.nan
        try:
            return read(value)
        except ValueError:
            if isinstance(value, str) and (not value.strip() or key_of(value) in missing):
                return math.nan
            raise

    def read_required(value: object) -> float:
        number = read_or_missing(value)
        if math.isnan(number):
            raise ValueError(f"a value is missing, which the model cannot take; send one, such as {card.example!r}")
        return number

    return read_required if card.required else read_or_missing


def not_a_number(value: object, card: ColumnCard) -> str:
    """Why a value does not fit a column of numbers."""
    return f"{truncate(repr(value))} is not a number" + ("" if card.required else "; null stands for a missing one")


def _number(card: ColumnCard, value: object) -> float:
    if isinstance(value, str):
        number = parse_number(value.strip(), card)
    else:
        number = value if isinstance(value, int | float) and not isinstance(value, bool) else None
    if number is None:
        raise ValueError(not_a_number(value, card))
    if not abs(number) <= LARGEST:
        raise ValueError(f"{truncate(str(number))} is not a finite float32")
    if card.integer and not (number == int(number) and abs(number) <= LARGEST_INTEGER):
        raise ValueError(
            f"{truncate(str(number))} is not an integer from {-LARGEST_INTEGER:.0f} to {LARGEST_INTEGER:.0f}"
        )
    return float(number)


def _boolean(card: ColumnCard, words: Mapping[str, float], value: object) -> float:
    if isinstance(value, bool):
        return float(value)
    found = words.get(key_of(value)) if isinstance(value, str) else None
    if found is None:
        raise ValueError(f"{truncate(repr(value))} is neither {card.values[1]!r} nor {card.values[0]!r}")
    return found


def _category(card: ColumnCard, words: Mapping[str, float], value: object) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = str(int(value)) if isinstance(value, int) or value.is_integer() else str(value)
    if not isinstance(value, str):
        raise ValueError(f"{truncate(repr(value))} is not a text, such as {card.values[0]!r}")
    number = words.get(value, words.get(key_of(value), UNKNOWN))
    if number == UNKNOWN and card.closed:
        known = ", ".join(map(repr, card.values[:_WORDS_NAMED])) + (", …" if len(card.values) > _WORDS_NAMED else "")
        raise ValueError(f"the model does not know {truncate(repr(value))}; it knows {known}")
    return number


def _date(card: ColumnCard, value: object) -> float:
    moment = parse_date(value, card.date_format) if isinstance(value, str) else value
    if not isinstance(moment, date):
        raise ValueError(f"{truncate(repr(value))} is not a date, such as {card.example!r}")
    if not isinstance(moment, datetime):
        moment = datetime.combine(moment, datetime.min.time())
    return (_naive(moment) - card.midnight) / _DAY


def _naive(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment
