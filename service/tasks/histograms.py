"""Histograms in a manifest: how the inputs and answers of the validation split are distributed.

The service counts the same of what it is sent and compares the two: see `service.drift`.
"""

from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, model_validator

from service.inference.cards import Card, ManifestBase, optional

Part = Literal["input", "answer"]
# Bins of numbers: inner ones of equal width, and on each side outer ones, each `GROWTH` times as wide as the last. They
# reach 300 times as far as the inner ones, so a column in other units still falls into one of them.
INNER, OUTER, GROWTH = 32, 8, 3.0
BINS = INNER + 2 * OUTER


class _Histogram(Card):
    """What both kinds of histograms have.

    Attributes:
        part: what the statistic is of.
        name: of the statistic.
        counts: validation items in each bin; an item with several values counts as fractions.
        threshold: the distance from which on 1,000 items differ from these; see `service.drift.distance`.
    """

    part: Part
    name: str
    counts: tuple[float, ...]
    threshold: PositiveFloat


class NumberHistogram(_Histogram):
    """How a number is distributed.

    Attributes:
        low: the lower edge of the first inner bin.
        width: of an inner bin.
        mean: of the values.
        std: their standard deviation, by which distances are divided.
        missing: items without a value.
    """

    kind: Literal["number"] = "number"
    low: float
    width: PositiveFloat
    mean: float
    std: PositiveFloat
    missing: float = optional(0.0, ge=0)

    @model_validator(mode="after")
    def _has_all_bins(self) -> "NumberHistogram":
        if len(self.counts) != BINS:
            raise ValueError(f"the histogram of {self.name!r} needs {BINS} counts, not {len(self.counts)}")
        return self


class CategoryHistogram(_Histogram):
    """How often each category occurs; the last one may stand for all rare ones."""

    kind: Literal["category"] = "category"
    categories: tuple[str, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _has_all_categories(self) -> "CategoryHistogram":
        if len(self.counts) != len(self.categories):
            raise ValueError(f"the histogram of {self.name!r} needs a count for each of its categories")
        return self


Histogram = Annotated[NumberHistogram | CategoryHistogram, Field(discriminator="kind")]


class ObservedManifest(ManifestBase):
    """A manifest that may have histograms.

    Attributes:
        histograms: of the validation split, by the reference graph; empty if the version has none.
    """

    histograms: tuple[Histogram, ...] = optional(())
