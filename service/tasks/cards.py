"""Parts of manifests that several tasks share."""

from typing import Literal

from pydantic import Field

from service.inference.cards import Card, Probability, VariantCard, optional

# Of p-values, in ascending order.
LEVELS = (0.01, 0.05, 0.1)


class ImageSize(Card):
    """The size of an image in pixels, with 1 channel for grey or 3 for RGB."""

    height: int = Field(gt=0)
    width: int = Field(gt=0)
    channels: Literal[1, 3]

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of a batch; -1 is any size."""
        return (-1, self.height, self.width, self.channels)


class ImageInput(ImageSize):
    """How to prepare an image: the largest centred part of this aspect, resized with antialiasing.

    Attributes:
        resize: `part`: the part's edges may lie between pixels. `image`: the image is resized to whole pixels, then
            cropped, as by torchvision and timm. `stretch`: the whole image is resized, whatever its aspect.
        crop: the share of that part, in height and width, that is used; the rest is a margin.
        interpolation: of the resize.
        background: the brightness (0 to 1) of the edges of the training images, if they share one.
    """

    resize: Literal["part", "image", "stretch"] = optional("part")
    crop: float = optional(1.0, gt=0, le=1)
    interpolation: Literal["bicubic", "bilinear"] = optional("bicubic")
    background: Probability | None = optional(None)


class Calibration(Card):
    """How probabilities were calibrated, inside the graph; fitted on validation, measured on test.

    With an exponent of 1 the logits are divided by the temperature (Guo et al. 2017, arXiv:1706.04599). Otherwise the
    probabilities are proportional to exp(-(-log p / temperature) ** exponent), p being the softmax of the logits: an
    increasing function of each log-probability, which keeps the order of the labels (Rahimi et al. 2020,
    arXiv:2003.06820). `ece` is the expected calibration error in 15 equal-width bins, before and after.
    """

    temperature: float = Field(gt=0)
    exponent: float = Field(1.0, gt=0, exclude_if=lambda exponent: exponent == 1)
    ece_before: Probability
    ece_after: Probability


class ConformalPoint(Card):
    """One row of the split conformal table (Sadinle et al. 2019, arXiv:1609.00451).

    Attributes:
        coverage: how often the label set should contain the true label.
        threshold: a label is in the set if its probability is at least this (the likeliest always is).
        test_coverage: the coverage on the test split.
        test_interval: Clopper and Pearson's 95 % interval of `test_coverage`.
        expected: the 95 % range of coverages on a test split of this size, over thresholds fitted on as many items, if
            test items are exchangeable with the calibration items (beta-binomial distribution). Coverage may exceed it,
            since the likeliest label is always in the set.
        cross_fitted: coverage of the calibration items themselves, each tenth by the threshold of the others.
        mean_set_size: labels in a set on average on the test split.
    """

    coverage: Probability
    threshold: Probability
    test_coverage: Probability
    test_interval: tuple[Probability, Probability] | None = Field(None, exclude_if=lambda value: value is None)
    expected: tuple[Probability, Probability] | None = Field(None, exclude_if=lambda value: value is None)
    cross_fitted: Probability | None = Field(None, exclude_if=lambda value: value is None)
    mean_set_size: float


class ClassMetrics(Card):
    """Test figures of one class (one against the rest)."""

    label: str
    precision: Probability
    recall: Probability
    f1: Probability
    support: int


class ClassifierMetrics(Card):
    """Test figures of a classifier."""

    accuracy: Probability
    macro_f1: Probability
    negative_log_likelihood: float
    validation_accuracy: Probability
    per_class: tuple[ClassMetrics, ...]


class ForeignFigures(Card):
    """Detection of an out-of-distribution data set against the test split.

    Attributes:
        auroc: area under the ROC curve.
        false_alarms: the false positive rate at a true positive rate of 95 %.
        caught: the share of its items below the card's `level`.
    """

    data: str
    items: int
    auroc: Probability
    false_alarms: Probability
    caught: Probability


class FamiliarityCard(Card):
    """How `unfamiliar` was fitted, and its measured error rates.

    Attributes:
        method: the score, in a line.
        method_chosen_on: the data that the method was chosen on, in a line; None if unrecorded.
        calibrated_on: distinct validation items that the p-value counts.
        test_below: by level, the share of the test items whose p-value is below it.
        cross_fitted_below: by level, the share of the calibration items below it; each tenth is scored by the others.
        foreign: figures on out-of-distribution data sets.
    """

    method: str
    method_chosen_on: str | None = Field(None, exclude_if=lambda value: value is None)
    calibrated_on: int = Field(gt=0)
    test_below: dict[str, Probability]
    cross_fitted_below: dict[str, Probability] = Field({}, exclude_if=lambda value: not value)
    foreign: tuple[ForeignFigures, ...] = ()

    @property
    def smallest(self) -> float:
        """The smallest p-value that so many calibration items can produce."""
        return 1 / (self.calibrated_on + 1)

    @property
    def level(self) -> float:
        """The lowest of `LEVELS` that a p-value can be below."""
        return next((level for level in LEVELS if level > self.smallest), LEVELS[-1])


class ClassifierVariant(VariantCard):
    """A variant of a classifier of images or texts, with what was measured and fitted on its own answers."""

    metrics: ClassifierMetrics
    calibration: Calibration
    conformal: tuple[ConformalPoint, ...] = Field(min_length=1)
    familiarity: FamiliarityCard | None = Field(None, exclude_if=lambda card: card is None)
