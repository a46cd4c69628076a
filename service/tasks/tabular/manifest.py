"""The manifest of a model of the rows of a table."""

from collections.abc import Mapping
from functools import cached_property
from typing import Any, Literal

import numpy as np
from pydantic import Field, model_validator

from service.inference.cards import Card, MainFigure, Probability, optional
from service.tasks.cards import Calibration, ClassMetrics
from service.tasks.familiarity import FamiliarManifest
from service.tasks.tabular.columns import LARGEST_INTEGER, UNKNOWN, ColumnCard
from service.tasks.tabular.rows import Columns


class CrossValidated(Card):
    """A figure over the folds of a cross-validation: accuracy, or the coefficient of determination (R²)."""

    mean: float
    std: float = Field(ge=0)


class TabularMetrics(Card):
    """Test figures; those of the other kind are absent.

    Attributes:
        rmse: root mean squared error in the target's unit; `mae` is the mean absolute error.
        cross_validated: by method: this model, its parts, the baseline, a linear model; empty without folds.
    """

    accuracy: Probability | None = None
    macro_f1: Probability | None = None
    per_class: tuple[ClassMetrics, ...] = ()
    rmse: float | None = None
    mae: float | None = None
    r2: float | None = None
    cross_validated: dict[str, CrossValidated] = Field({})


class TabularManifest(FamiliarManifest):
    """Rows, float32 (batch, columns; NaN where a value is missing), to probabilities or to one number.

    All values become numbers: see `ColumnCard`. Rows may have the `ignored` columns, which the model does not take.

    Attributes:
        kind: classes with probabilities (batch, labels), or a number (batch, 1).
        columns: in the order of the input.
    """

    task: Literal["tabular"] = "tabular"
    kind: Literal["classification", "regression"]
    target: str
    columns: tuple[ColumnCard, ...] = Field(min_length=1)
    ignored: tuple[str, ...] = ()
    labels: tuple[str, ...]
    metrics: TabularMetrics = optional(TabularMetrics())
    calibration: Calibration | None = None

    @cached_property
    def bounds(self) -> Mapping[str, tuple[Any, Any]]:
        """Of the indices of categories, -1 being an unknown word, and of integers."""
        least, most = zip(*map(_bounds, self.columns), strict=True)
        return {self.inputs[0].name: (np.array(least, np.float32), np.array(most, np.float32))}

    @cached_property
    def required(self) -> Mapping[str, Any]:
        """Of the columns that need a value."""
        needed = np.array([card.required for card in self.columns])
        return {self.inputs[0].name: needed} if needed.any() else {}

    @cached_property
    def reading(self) -> Columns:
        """The columns, ready to read rows."""
        return Columns(self.columns, self.ignored)

    @property
    def headline(self) -> dict[str, float]:
        """The main test figures."""
        figures = {"accuracy": self.metrics.accuracy, "r2": self.metrics.r2}
        return {name: value for name, value in figures.items() if value is not None}

    @property
    def main_figure(self) -> MainFigure | None:
        if self.metrics.accuracy is not None:
            return MainFigure("accuracy", self.metrics.accuracy, is_share=True)
        return None if self.metrics.r2 is None else MainFigure("r2", self.metrics.r2)

    @model_validator(mode="after")
    def _check_shapes(self) -> "TabularManifest":
        outputs = len(self.labels) if self.kind == "classification" else 1
        self.check_shapes([(-1, len(self.columns))], [(-1, outputs)], "columns and labels")
        return self


def _bounds(card: ColumnCard) -> tuple[float, float]:
    """The least and the greatest number of a column."""
    if card.kind == "category":
        return 0.0 if card.closed else UNKNOWN, len(card.values) - 1.0
    return (-LARGEST_INTEGER, LARGEST_INTEGER) if card.integer else (-np.inf, np.inf)
