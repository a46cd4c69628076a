"""Sample rows for a graph of columns: read from CSV, or drawn from what the graph tells about its columns."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from quartet.adopt.graph import CannotAdopt
from quartet.adopt.tabular.tracing import Facts
from service.tasks.tabular.columns import UNKNOWN, ColumnCard
from service.tasks.tabular.rows import Floats

# Of a file with samples.
_MOST_ROWS, _MOST_BYTES = 100_000, 64 * 2**20
_DELIMITERS = ",;\t"
# Shares of the drawn rows that lack a value, or have an unknown word.
_MISSING, _STRANGE = 0.1, 0.05
_SEED = 0


class Table(NamedTuple):
    """A CSV file.

    Attributes:
        header: the names of its columns.
        rows: by name, the cells of each row.
    """

    header: tuple[str, ...]
    rows: list[dict[str, str]]

    def words(self, column: str) -> list[str]:
        """The distinct words of a column, the most frequent first."""
        counts: dict[str, int] = {}
        for row in self.rows:
            if word := row[column]:
                counts[word] = counts.get(word, 0) + 1
        return sorted(counts, key=lambda word: (-counts[word], word))


def read_table(path: Path) -> Table:
    """Reads a CSV file with a header, up to 100,000 rows; commas, semicolons or tabs separate the cells.

    Raises:
        CannotAdopt: it cannot be read, is larger than 64 MB, or its lines do not fit the header.
    """
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise CannotAdopt("samples", f"{path} is larger than 64 MB: give a part of its rows.")
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise CannotAdopt("samples", f"{path} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise CannotAdopt("samples", f"{path} is not UTF-8: --samples takes a CSV file with a header.") from None
    head = text.partition("\n")[0]
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=max(_DELIMITERS, key=head.count))
    try:
        header = tuple(name.strip() for name in next(reader, ()))
        rows = []
        for line in reader:
            if len(line) != len(header) and line:
                raise CannotAdopt(
                    "samples", f"{path}: line {reader.line_num} has {len(line)} cells, not {len(header)}."
                )
            if line:
                rows.append(dict(zip(header, map(str.strip, line), strict=True)))
            if len(rows) == _MOST_ROWS:
                break
    except csv.Error as error:
        raise CannotAdopt("samples", f"{path}: line {reader.line_num} cannot be read: {error}.") from None
    if not rows or len({*header}) < len(header):
        raise CannotAdopt("samples", f"{path} needs a line of distinct column names, and at least one row.")
    return Table(header, rows)


def draw_rows(cards: Sequence[ColumnCard], facts: Sequence[Facts], count: int) -> Floats:
    """Random rows, complete; numbers lie where the graph tells apart what it takes."""
    random = np.random.default_rng(_SEED)
    return np.stack([_draw(card, fact, count, random) for card, fact in zip(cards, facts, strict=True)], axis=1)


def _draw(card: ColumnCard, facts: Facts, count: int, random: np.random.Generator) -> Floats:
    if card.kind != "number":
        return random.integers(0, len(card.values), count).astype(np.float32)
    if facts.thresholds:
        spread = (max(facts.thresholds) - min(facts.thresholds)) or abs(facts.thresholds[0]) or 1.0
        drawn = random.choice(facts.thresholds, count) + random.normal(0, 0.1 * spread, count)
    else:
        centre = next((each for each in (facts.centre, facts.imputed) if each is not None), 0.0)
        drawn = random.normal(centre, facts.spread or 0.5 * abs(centre) or 1.0, count)
    if card.integer:
        return np.rint(drawn).astype(np.float32)
    # Readable in the examples of the page.
    return np.array([float(f"{value:.4g}") for value in drawn], np.float32)


def with_gaps(rows: Floats, cards: Sequence[ColumnCard]) -> Floats:
    """A copy in which some values of the second half are missing or unknown, where the model takes that."""
    random = np.random.default_rng(_SEED)
    changed = rows.copy()
    for index, card in enumerate(cards):
        half = changed[len(rows) // 2 :, index]
        if card.kind == "category" and not card.closed:
            half[random.random(len(half)) < _STRANGE] = UNKNOWN
        if not card.required:
            half[random.random(len(half)) < _MISSING] = np.nan
    return changed
