"""Numeric columns and a target, from a CSV or parquet file, or scikit-learn's own example."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split

from training.data import DataError
from training.hub import load_file_or_hub

BREAST_CANCER = "breast-cancer"
Kind = Literal["classification", "regression"]

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class TabularSplit:
    """Rows with their targets.

    Attributes:
        rows: float32, shape (n, columns); NaN where a value is missing.
        targets: int64 class indices, or float32 values, shape (n,).
    """

    rows: Floats
    targets: npt.NDArray[Any]

    def __len__(self) -> int:
        return len(self.targets)

    def take(self, indices: npt.NDArray[np.int64]) -> "TabularSplit":
        """The rows at `indices`, in that order."""
        return TabularSplit(self.rows[indices], self.targets[indices])


@dataclass(frozen=True, slots=True)
class TabularData:
    """A table with its three splits and its fingerprint; `classes` is empty if the target is a number."""

    name: str
    kind: Kind
    columns: tuple[str, ...]
    target: str
    classes: tuple[str, ...]
    train: TabularSplit
    validation: TabularSplit
    test: TabularSplit
    fingerprint: str


def load_table(
    source: str, target: str | None, *, kind: Kind | None = None, validation: float = 0.15, seed: int = 0
) -> TabularData:
    """Loads a table.

    Args:
        source: a CSV or parquet file, a hub id, or `breast-cancer` for scikit-learn's data (Street et al. 1993).
        target: the column to predict.
        kind: what the target is; by default a number if it is numeric with more than twenty values, a class otherwise.
        validation: the share of the training rows that chooses the epoch.
        seed: of the splits.

    Raises:
        DataError: a wrong path, no such column, a target that is missing, a column that is not numeric.
    """
    if source == BREAST_CANCER:
        bunch: Any = load_breast_cancer()
        names = [str(name) for name in bunch.target_names]
        table = {str(name): bunch.data[:, index].tolist() for index, name in enumerate(bunch.feature_names)}
        target = target or "diagnosis"
        table[target] = [names[index] for index in bunch.target]
    else:
        table = _read(source)
    if target is None or target not in table:
        raise DataError(f"{source}: has the columns {', '.join(table)}: choose the one to predict with --target.")
    values = table.pop(target)
    columns, rows = _numbers(source, table)
    kind = kind or _kind_of(values)
    classes, targets = _targets(source, target, values, kind)
    stratify = targets if kind == "classification" else None
    try:
        rest, test = train_test_split(np.arange(len(rows)), test_size=0.2, random_state=seed, stratify=stratify)
        train, held_out = train_test_split(
            rest, test_size=validation, random_state=seed, stratify=None if stratify is None else targets[rest]
        )
    except ValueError as error:
        raise DataError(f"{source}: too few rows to hold out test and validation rows: {error}") from error
    for name, known in zip(columns, ~np.isnan(rows[train]).all(0), strict=True):
        if not known:
            raise DataError(
                f"{source}: the column {name!r} holds too few numbers, none of them in a training row: leave it out."
            )
    every = TabularSplit(rows, targets)
    digest = hashlib.sha256(rows.tobytes() + targets.tobytes()).hexdigest()
    return TabularData(
        Path(source).stem if Path(source).exists() else source,
        kind,
        columns,
        target,
        classes,
        every.take(np.sort(train)),
        every.take(np.sort(held_out)),
        every.take(np.sort(test)),
        f"sha256:{digest}",
    )


def _read(source: str) -> dict[str, list[Any]]:
    hint = f"Give a CSV or parquet file, a hub id, or {BREAST_CANCER}."
    loaded = load_file_or_hub(source, hint, {".csv": "csv", ".parquet": "parquet"})
    part = loaded["train"] if "train" in loaded else next(iter(loaded.values()))
    # The service strips names too, since people write "height, weight".
    table = {name.strip(): list(part[name]) for name in part.column_names}
    if len(table) < len(part.column_names):
        raise DataError(f"{source}: two columns have the same name, apart from spaces: {', '.join(part.column_names)}.")
    return table


def _numbers(source: str, table: dict[str, list[Any]]) -> tuple[tuple[str, ...], Floats]:
    arrays = []
    for name, values in table.items():
        for row, value in enumerate(values):
            if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
                raise DataError(
                    f"{source} row {row}: the column {name!r} holds {value!r}, which is no number. Leave the column "
                    "out or turn it into numbers."
                )
        array = np.array([np.nan if value is None else value for value in values], dtype=np.float64)
        array[np.isinf(array)] = np.nan
        if np.isnan(array).all():
            raise DataError(f"{source}: the column {name!r} holds no number at all.")
        arrays.append(array.astype(np.float32))
    if not arrays:
        raise DataError(f"{source}: has no column beside the target.")
    return tuple(table), np.stack(arrays, axis=1)


def _kind_of(values: list[Any]) -> Kind:
    numeric = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    return "regression" if numeric and len(set(values)) > 20 else "classification"


def _targets(source: str, target: str, values: list[Any], kind: Kind) -> tuple[tuple[str, ...], npt.NDArray[Any]]:
    missing = next((row for row, value in enumerate(values) if value is None or value != value), None)
    if missing is not None:
        raise DataError(f"{source} row {missing}: the target {target!r} is missing.")
    if kind == "regression":
        try:
            return (), np.array(values, dtype=np.float32)
        except ValueError:
            raise DataError(f"{source}: the target {target!r} holds no numbers; use --kind classification.") from None
    classes = sorted(set(values), key=lambda value: (str(type(value)), value))
    if len(classes) < 2:
        raise DataError(f"{source}: the target {target!r} has {len(classes)} value; classification needs two or more.")
    lookup = {value: index for index, value in enumerate(classes)}
    return tuple(str(value) for value in classes), np.array([lookup[value] for value in values], dtype=np.int64)
