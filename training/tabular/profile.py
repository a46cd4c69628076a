"""What each column of a table holds: numbers, yes or no, dates, categories; or nothing that a prediction should use."""

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from itertools import islice
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from service.tasks.tabular.columns import ColumnCard, key_of, parse_date, parse_number
from training.data.tables import Table

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
# From this share of a column's values on, those that do not fit are mistakes, not a sign of another kind.
_MOSTLY = 0.9
_FEWEST_ROWS = 10
_MOST_DISTINCT = 1_000_000
_MOST_TRIED = 5_000


@dataclass(frozen=True, slots=True)
class Profile:
    """What a column holds.

    Attributes:
        card: how its values are read, still without statistics and without the words of a category; None if it cannot
            be used at all.
        left_out: why it should not be used, if there is a reason.
        remark: what the user should know about how it is read.
        distinct: how many different values it has.
    """

    card: ColumnCard | None
    left_out: str = ""
    remark: str = ""
    distinct: int = 0


def profile(table: Table, name: str) -> Profile:
    """Looks at all values of a column."""
    kinds = {part.type for part in islice(table.parts(name), 1)}
    kind = kinds.pop() if kinds else pa.large_string()
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if name in table.classes:
        return _of_words(name, _count(table, name, lambda index: table.classes[name][index]), table)
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return _of_words(name, _count(table, name, str), table)
    if pa.types.is_boolean(kind):
        return Profile(ColumnCard(name=name, kind="boolean", values=("false", "true"), mean=0.0), distinct=2)
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        counts = _count(table, name, lambda value: value)
        return _of_numbers(ColumnCard(name=name, mean=0.0), counts) if counts else Profile(None, "is empty")
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        least = min((pc.min(part).as_py() for part in table.parts(name) if part.null_count < len(part)), default=None)
        if least is None:
            return Profile(None, "is empty")
        return Profile(_date_card(name, least, ""), distinct=2)
    return Profile(None, f"holds values of the type {kind}")


def _count(table: Table, name: str, read: Callable[[Any], Any]) -> Counter[Any]:
    """How often each value occurs; further ones are not told apart once there are very many."""
    counts: Counter[Any] = Counter()
    for part in table.parts(name):
        for entry in pc.value_counts(part).to_pylist():
            value = entry["values"]
            if value is not None and value == value and (len(counts) < _MOST_DISTINCT or value in counts):
                counts[read(value)] += entry["counts"]
    return counts


def _of_words(name: str, counts: Counter[str], table: Table) -> Profile:
    """What a column of text holds."""
    missing = {word for word in counts if key_of(word) in MISSING_WORDS}
    present: Counter[str] = Counter()
    for word, count in counts.items():
        if word.strip() and word not in missing:
            present[word.strip()] += count
    if not present:
        return Profile(None, "is empty")
    words = tuple(sorted({" ".join(word.split()) for word in missing}))
    keys = {key_of(word) for word in present}
    pair = next((pair for pair in _BOOLEANS if keys == set(pair)), None)
    if pair:
        spelt = {key_of(word): word for word, _ in reversed(present.most_common())}
        values = (spelt[pair[0]], spelt[pair[1]])
        return Profile(ColumnCard(name=name, kind="boolean", values=values, missing_words=words, mean=0.0), distinct=2)
    european = table.delimiter in (";", "\t")
    if found := _number_card(name, present, european):
        return _of_numbers(found.model_copy(update={"missing_words": words}), _as_numbers(present, found))
    if dated := _dates_card(name, present, european):
        card, remark = dated
        return Profile(card.model_copy(update={"missing_words": words}), remark=remark, distinct=len(present))
    total = sum(present.values())
    card = ColumnCard(name=name, kind="category", values=("",), missing_words=words)
    distinct = len(keys)
    reason = ""
    if distinct == 1:
        reason = f"is always {next(iter(present))!r}"
    elif distinct > _MOSTLY * total and total >= _FEWEST_ROWS:
        reason = "is different in nearly every row: an id or a text"
    elif distinct > total / 2 and distinct > 50:
        reason = f"hardly repeats ({distinct:,} different words in {total:,} rows): names or texts"
    return Profile(card, reason, distinct=distinct)


def _of_numbers(card: ColumnCard, counts: Counter[Any]) -> Profile:
    """What a column of numbers holds: measurements, or numbers that name things."""
    distinct = len(counts)
    if distinct == 1:
        return Profile(card, f"is always {next(iter(counts)):g}", distinct=1)
    whole = all(float(value).is_integer() for value in counts)
    if _looks_like_dates(counts):
        return Profile(_date_card(card.name, _day_of(min(counts)), "%Y%m%d"), distinct=distinct)
    total = sum(counts.values())
    named = bool(_ID_NAME.search(card.name) or _ID_NAME.search(card.name.lower()))
    if not whole or total < _FEWEST_ROWS:
        return Profile(card, distinct=distinct)
    if distinct == total and (named or max(counts) - min(counts) + 1 == total):
        return Profile(card, "numbers the rows", distinct=distinct)
    if named and distinct > total / 2:
        return Profile(
            card, f"is an id by its name, and hardly repeats ({distinct:,} in {total:,} rows)", distinct=distinct
        )
    if named:
        category = ColumnCard(name=card.name, kind="category", values=("",), missing_words=card.missing_words)
        return Profile(category, remark="is an id by its name: a category", distinct=distinct)
    return Profile(card, distinct=distinct)


def _looks_like_dates(counts: Counter[Any]) -> bool:
    """Whether numbers are days, written as 20240131."""
    if len(counts) < 3 or not all(19000101 <= value <= 21001231 for value in counts):
        return False
    return all(_day_of(value) is not None for value in counts)


def _day_of(value: Any) -> datetime | None:
    return parse_date(str(int(value)), "%Y%m%d") if float(value).is_integer() else None


def _as_numbers(present: Counter[str], card: ColumnCard) -> Counter[float]:
    counts: Counter[float] = Counter()
    for word, count in present.items():
        number = parse_number(word, card)
        if number is not None:
            counts[number] += count
    return counts


def _number_card(name: str, present: Counter[str], european: bool) -> ColumnCard | None:
    """How the numbers of a column are written, if it mostly holds numbers."""
    tried = present.most_common(_MOST_TRIED)
    total = sum(count for _, count in tried)
    signs = [sign for sign in _UNITS if sum(c for word, c in tried if sign in word) > _MOSTLY * total]
    formats = sorted(_NUMBERS, key=lambda form: form[0] != ",") if european else _NUMBERS
    formats = sorted(formats, key=lambda form: form != (".", ""))
    best, card = 0, None
    for decimal, group in formats:
        candidate = ColumnCard(
            name=name,
            mean=0.0,
            unit=signs[0] if signs else "",
            decimal=decimal,
            group=group,
        )
        fitting = sum(count for word, count in tried if parse_number(word, candidate) is not None)
        if fitting > best:
            best, card = fitting, candidate
    return card if best >= _MOSTLY * total else None


def _dates_card(name: str, present: Counter[str], european: bool) -> tuple[ColumnCard, str] | None:
    """How the dates of a column are written, if it mostly holds dates."""
    tried = present.most_common(_MOST_TRIED)
    total = sum(count for _, count in tried)
    if not any(any(character.isdigit() for character in word) for word, _ in tried[:20]):
        return None
    scores = {}
    for form in (day + time for day in _DATES for time in (_TIMES if day else ("",))):
        first = [word for word, _ in tried[:50]]
        if sum(parse_date(word, form) is not None for word in first) * 2 >= len(first):
            scores[form] = sum(count for word, count in tried if parse_date(word, form) is not None)
    if not scores or max(scores.values()) < _MOSTLY * total:
        return None
    fitting = [form for form, score in scores.items() if score == max(scores.values())]
    if european:
        fitting.sort(key=lambda form: form.startswith("%m"))
    form = fitting[0]
    moments = [moment for word in present if (moment := parse_date(word, form)) is not None]
    twins = [f for f in fitting if f != form and f[:2] in ("%d", "%m") and form[:2] in ("%d", "%m")]
    remark = f"its dates are taken for {form} (they would fit {twins[0]} as well)" if twins else ""
    return _date_card(name, min(moments), form), remark


def _date_card(name: str, least: date | None, form: str) -> ColumnCard:
    day = least.date() if isinstance(least, datetime) else least
    if day is None:
        raise ValueError(f"{name}: no date")
    return ColumnCard(name=name, kind="date", origin=day - timedelta(days=day.weekday()), date_format=form, mean=0.0)
