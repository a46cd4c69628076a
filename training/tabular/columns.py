"""The columns of a table: what each holds, and its values as the numbers that a network takes."""

import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from service.tasks.tabular.columns import UNKNOWN, ColumnCard, key_of, parse_date, parse_number, reader_of
from training.data.dataset import DataError, Inspection
from training.data.splits import Indices
from training.data.tables import Table
from training.tabular.options import Kind

Floats = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

MISSING_WORDS = frozenset(
    ("na", "n/a", "#n/a", "nan", "null", "none", "nil", "?", "-", "--", ".", "missing", "결측", "해당 없음")
)
# The word for false, then the word for true.
_BOOLEANS = (
    ("no", "yes"), ("n", "y"), ("false", "true"), ("f", "t"), ("off", "on"), ("아니오", "예"), ("아니요", "예"),
    ("무", "유"), ("x", "o"), ("nein", "ja"), ("non", "oui"),
)  # fmt: skip
_UNITS = "%$€£¥₩"
# Decimals and thousands, the likeliest first.
_NUMBERS = ((".", ""), (".", ","), (",", ""), (",", "."), (",", " "), (".", " "), (".", "'"))
_DATES = (
    "", "%Y/%m/%d", "%Y.%m.%d", "%Y. %m. %d", "%Y. %m. %d.", "%Y년 %m월 %d일", "%Y%m%d", "%m/%d/%Y", "%d/%m/%Y",
    "%d.%m.%Y", "%d-%m-%Y", "%m/%d/%y", "%d/%m/%y", "%d.%m.%y", "%d %b %Y", "%d %B %Y", "%b %d, %Y", "%B %d, %Y",
)  # fmt: skip
_TIMES = ("", " %H:%M", " %H:%M:%S")
_ID_NAME = re.compile(
    r"(^|[\s_.\-])(id|ids|idx|index|uuid|guid|key|no|nr|number|code)$|(?<=[a-z])(Id|ID)$|번호$|아이디$|^unnamed \d+$|"
    r"^row[\s_]?names?$",
)
# If at least this fraction of a column's values fits a kind, the others are mistakes.
_MOSTLY = 0.9
# Values that hardly repeat are only then too many.
MANY = 50
_FEWEST_ROWS, _MOST_TRIED, _MOST_DISTINCT = 10, 5_000, 1_000_000
# Further words, and words of a single row, count as unknown.
_MOST_WORDS, _FEWEST_ROWS_PER_WORD = 1_000, 2


@dataclass(frozen=True, slots=True)
class Profile:
    """What a column holds.

    Attributes:
        card: how its values are read, without statistics and the words of a category; None if it cannot be used.
        left_out: why it should not be used, if there is a reason.
        remark: what the user should know about how it is read.
        distinct: how many different values it has.
    """

    card: ColumnCard | None
    left_out: str = ""
    remark: str = ""
    distinct: int = 0

    @property
    def kind(self) -> Kind:
        numeric = self.card is not None and self.card.kind == "number"
        return "regression" if numeric and self.distinct > 20 else "classification"


def profile(table: Table, name: str) -> Profile:
    """Looks at all values of a column."""
    first = next(table.parts(name), None)
    kind = pa.large_string() if first is None else first.type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if name in table.classes or pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return _of_words(name, _count(table, name, lambda value: _class_name(table, name, value)), table)
    if pa.types.is_boolean(kind):
        return Profile(ColumnCard(name=name, kind="boolean", values=("false", "true"), mean=0.0), distinct=2)
    if _is_numeric(kind):
        counts = _count(table, name, lambda value: value)
        return _of_numbers(ColumnCard(name=name, mean=0.0), counts) if counts else Profile(None, "is empty")
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        least = min((pc.min(part).as_py() for part in table.parts(name) if part.null_count < len(part)), default=None)
        return Profile(_date_card(name, least, ""), distinct=2) if least else Profile(None, "is empty")
    return Profile(None, f"holds values of the type {kind}")


def _is_numeric(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)


def _class_name(table: Table, column: str, value: Any) -> str:
    """A value as text; of class labels that are stored as numbers their names."""
    names = table.classes.get(column, ())
    return names[value] if names and 0 <= value < len(names) else str(value)


def _count(table: Table, name: str, read: Callable[[Any], Any]) -> Counter[Any]:
    """How often each value occurs; values beyond `_MOST_DISTINCT` are not counted."""
    counts: Counter[Any] = Counter()
    for part in table.parts(name):
        for entry in pc.value_counts(part).to_pylist():
            value = entry["values"]
            if value is not None and value == value and (len(counts) < _MOST_DISTINCT or value in counts):
                counts[read(value)] += entry["counts"]
    return counts


def _of_words(name: str, counts: Counter[str], table: Table) -> Profile:
    missing = {word for word in counts if key_of(word) in MISSING_WORDS}
    present: Counter[str] = Counter()
    for word, count in counts.items():
        if word.strip() and word not in missing:
            present[word.strip()] += count
    if not present:
        return Profile(None, "is empty")
    words = tuple(sorted({" ".join(word.split()) for word in missing}))
    spelt = {key_of(word): word for word, _ in reversed(present.most_common())}
    distinct, total = len(spelt), present.total()
    if pair := next((pair for pair in _BOOLEANS if set(spelt) == set(pair)), None):
        values = (spelt[pair[0]], spelt[pair[1]])
        return Profile(ColumnCard(name=name, kind="boolean", values=values, missing_words=words, mean=0.0), distinct=2)
    european = table.delimiter in (";", "\t")
    if found := _number_card(name, present, european):
        numbers: Counter[float] = Counter()
        for word, count in present.items():
            if (number := parse_number(word, found)) is not None:
                numbers[number] += count
        return _of_numbers(found.model_copy(update={"missing_words": words}), numbers)
    if dates := _find_dates(name, present, european):
        return Profile(dates[0].model_copy(update={"missing_words": words}), "", dates[1], len(present))
    reason = ""
    if distinct == 1:
        reason = f"is always {next(iter(present))!r}"
    elif distinct > _MOSTLY * total and total >= _FEWEST_ROWS:
        reason = "is different in nearly every row: an id or a text"
    elif distinct > total / 2 and distinct > MANY:
        reason = f"hardly repeats ({distinct:,} different values in {total:,} rows): names or texts"
    card = ColumnCard(name=name, kind="category", values=("",), missing_words=words)
    return Profile(card, reason, distinct=distinct)


def _of_numbers(card: ColumnCard, counts: Counter[Any]) -> Profile:
    distinct, total = len(counts), counts.total()
    reason = remark = ""
    named = bool(_ID_NAME.search(card.name) or _ID_NAME.search(card.name.lower()))
    if distinct == 1:
        reason = f"is always {next(iter(counts)):g}"
    elif not all(float(value).is_integer() for value in counts):
        pass
    elif distinct > 2 and all(19000101 <= value <= 21001231 and _day_of(value) for value in counts):
        card = _date_card(card.name, _day_of(min(counts)), "%Y%m%d")
    elif total < _FEWEST_ROWS:
        pass
    elif distinct == total and (named or max(counts) - min(counts) + 1 == total):
        reason = "numbers the rows"
    elif named and distinct > total / 2:
        reason = f"is an id by its name, and hardly repeats ({distinct:,} in {total:,} rows)"
    elif named:
        card = ColumnCard(name=card.name, kind="category", values=("",), missing_words=card.missing_words)
        remark = "is an id by its name: a category"
    return Profile(card, reason, remark, distinct)


def _day_of(value: float) -> datetime | None:
    return parse_date(str(int(value)), "%Y%m%d")


def _number_card(name: str, present: Counter[str], european: bool) -> ColumnCard | None:
    """How the numbers of a column are written, if it mostly holds numbers."""
    tried = present.most_common(_MOST_TRIED)
    total = sum(count for _, count in tried)
    unit = next((sign for sign in _UNITS if sum(c for word, c in tried if sign in word) > _MOSTLY * total), "")
    formats = sorted(_NUMBERS, key=lambda form: (form != (".", ""), european and form[0] != ","))
    cards = [ColumnCard(name=name, mean=0.0, unit=unit, decimal=decimal, group=group) for decimal, group in formats]
    fitting = [sum(c for word, c in tried if parse_number(word, card) is not None) for card in cards]
    return cards[fitting.index(max(fitting))] if max(fitting) >= _MOSTLY * total else None


def _find_dates(name: str, present: Counter[str], european: bool) -> tuple[ColumnCard, str] | None:
    """How the dates of a column are written, if it mostly holds dates, and a remark if another format fits as well."""
    tried = present.most_common(_MOST_TRIED)
    if not any(any(character.isdigit() for character in word) for word, _ in tried[:20]):
        return None
    first = [word for word, _ in tried[:50]]
    scores = {
        form: sum(count for word, count in tried if parse_date(word, form))
        for form in (day + time for day in _DATES for time in (_TIMES if day else ("",)))
        if sum(parse_date(word, form) is not None for word in first) * 2 >= len(first)
    }
    best = max(scores.values(), default=0)
    if best < _MOSTLY * sum(count for _, count in tried):
        return None
    fitting = [form for form, score in scores.items() if score == best]
    if european:
        fitting.sort(key=lambda form: form.startswith("%m"))
    form, *others = fitting
    twins = [other for other in others if {other[:2], form[:2]} <= {"%d", "%m"}]
    remark = f"its dates are read as {form} (they would fit {twins[0]} as well)" if twins else ""
    moments = (moment for word in present if (moment := parse_date(word, form)))
    return _date_card(name, min(moments), form), remark


def _date_card(name: str, least: Any, form: str) -> ColumnCard:
    day: date = least.date() if isinstance(least, datetime) else least
    return ColumnCard(name=name, kind="date", origin=day - timedelta(days=day.weekday()), date_format=form, mean=0.0)


def encode(table: Table, card: ColumnCard, exclude: Callable[[Indices, str], None]) -> tuple[Floats, list[str]]:
    """A column as numbers; `exclude` gets the rows whose values cannot be read, and why.

    Returns:
        float32, shape (rows,), NaN where a value is missing; and for a category its words, which the numbers index.
    """
    spellings: dict[str, Counter[str]] = {}
    indices: dict[str, int] = {}
    missing = {"", *map(key_of, card.missing_words)}
    reader = reader_of(card)

    def read(value: Any, count: int) -> float:
        if card.kind != "category":
            # Typed columns may store dates as numbers such as 20240131.
            return reader(str(int(value)) if card.kind == "date" and isinstance(value, int | float) else value)
        text = _class_name(table, card.name, value)
        key = key_of(text)
        if key in missing:
            return math.nan
        spellings.setdefault(key, Counter())[" ".join(text.split())] += count
        return indices.setdefault(key, len(indices))

    columns, start = [np.empty(0, np.float32)], 0
    for part in table.parts(card.name):
        if card.kind == "number" and _is_numeric(part.type):
            numbers = part.cast(pa.float64()).to_numpy(zero_copy_only=False)
            columns.append(np.where(np.isfinite(numbers), numbers, np.nan).astype(np.float32))
        else:
            coded = part if pa.types.is_dictionary(part.type) else part.dictionary_encode()
            codes = coded.indices.fill_null(len(coded.dictionary)).to_numpy(zero_copy_only=False)
            counts = np.bincount(codes, minlength=len(coded.dictionary) + 1)
            decoded = np.full(len(counts), np.nan, dtype=np.float32)
            for code, value in enumerate(coded.dictionary.to_pylist()):
                if value is None or value != value:
                    continue
                try:
                    decoded[code] = read(value.strip() if isinstance(value, str) else value, int(counts[code]))
                except ValueError as error:
                    reason = f"column {card.name!r}: {_reason(error, value, card)}"
                    exclude(start + np.flatnonzero(codes == code), reason)
            columns.append(decoded[codes])
        start += len(part)
    return np.concatenate(columns), [spelt.most_common(1)[0][0] for spelt in spellings.values()]


def _reason(error: ValueError, value: Any, card: ColumnCard) -> str:
    """Why a value is not used, and for a number how the others of its column are written."""
    reason = str(error).replace("; null stands for a missing one", "")
    if card.kind != "number" or "not a number" not in reason:
        return reason
    written = f"write it like {card.write(1234.5)}, or leave the cell empty"
    other = "," if card.decimal == "." else "."
    swapped = card.model_copy(update={"decimal": other, "group": ""})
    if other in str(value) and parse_number(str(value).strip(), swapped) is not None:
        names = {",": "decimal comma", ".": "decimal point"}
        reason += f": it has a {names[other]}, and most values of this column have a {names[card.decimal]}"
    return f"{reason}; {written}"


def describe_columns(
    source: str, cards: Sequence[ColumnCard], encoded: Sequence[tuple[Floats, list[str]]], train: Indices,
    inspection: Inspection,
) -> tuple[tuple[ColumnCard, ...], Floats]:  # fmt: skip
    """The cards with statistics of the training rows, and all rows, float32, shape (rows, cards).

    Columns that have no value in the training rows are left out.
    """
    layout, columns, empty = [], [], []
    for card, (values, words) in zip(cards, encoded, strict=True):
        known = values[train][~np.isnan(values[train])].astype(np.float64)
        about: dict[str, Any] = {"missing": 1 - len(known) / len(train)}
        if card.kind == "category":
            # The words of single rows teach the network what an unknown word means.
            counts = np.bincount(known.astype(np.int64), minlength=len(words)).tolist()
            order = sorted(range(len(words)), key=lambda index: (-counts[index], words[index]))
            kept = [index for index in order if counts[index] >= _FEWEST_ROWS_PER_WORD][:_MOST_WORDS]
            about["values"] = tuple(words[index] for index in kept)
            codes = np.nan_to_num(values, nan=len(words)).astype(np.int64)
            values = np.append(_positions(kept, len(words)).astype(np.float32), np.float32(np.nan))[codes]
        elif len(known):
            about |= {"mean": known.mean(), "std": known.std(), "low": known.min(), "high": known.max()}
        if len(known) and about.get("values", True):
            layout.append(card.model_copy(update=about))
            columns.append(values)
        else:
            empty.append(card.name)
    if empty:
        inspection.notes.append(f"left out, since too few training rows have a value: {', '.join(map(repr, empty))}")
    if not layout:
        raise DataError(f"{source}: no column has values in the training rows.")
    return tuple(layout), np.stack(columns, axis=1)


def sort_classes(
    source: str, classes: list[str], targets: npt.NDArray[np.int64], parts: dict[str, Indices]
) -> tuple[tuple[str, ...], npt.NDArray[np.int64]]:
    """The classes of the training rows in ascending order, and the targets as their indices.

    Raises:
        DataError: another split has a class that the training rows lack.
    """
    used = np.unique(targets[parts["train"]])
    for name, rows in parts.items():
        if unknown := sorted(classes[index] for index in np.setdiff1d(targets[rows], used)):
            raise DataError(f"{source} [{name}]: no training row is of the class {', '.join(unknown)}.")

    def rank(index: int) -> tuple[bool, float, str]:
        try:
            return False, float(classes[index]), classes[index]
        except ValueError:
            return True, 0.0, classes[index]

    order = sorted(used.tolist(), key=rank)
    return tuple(classes[index] for index in order), np.append(_positions(order, len(classes)), -1)[targets]


def _positions(kept: Sequence[int], count: int) -> npt.NDArray[np.int64]:
    positions = np.full(count, int(UNKNOWN))
    positions[list(kept)] = np.arange(len(kept))
    return positions
