"""The manifest of an object detector."""

from typing import Literal

import numpy as np
from pydantic import Field, model_validator

from service.inference.cards import Card, MainFigure, Probability, VariantCard, optional
from service.tasks.cards import FamiliarityCard, ImageSize
from service.tasks.familiarity import FamiliarManifest


class LetterboxInput(ImageSize):
    """How to prepare an image: scaled whole into a frame of this size (bilinear), centred, the rest filled.

    Attributes:
        antialias: whether every pixel counts where an image is scaled down. False: as OpenCV's `INTER_LINEAR`, with
            which Ultralytics trains.
    """

    channels: Literal[3] = 3
    antialias: bool = optional(True)


class DetectorClassMetrics(Card):
    """Test figures of one class: average precision at an overlap of 0.5, of 0.75, and the mean over 0.5 to 0.95."""

    label: str
    ap_50: Probability
    ap_75: Probability
    ap: Probability
    support: int


class DetectorMetrics(Card):
    """Test figures of a detector (Lin et al. 2014, arXiv:1405.0312): means over the classes."""

    map_50: Probability
    map_75: Probability
    map: Probability
    validation_map: Probability
    per_class: tuple[DetectorClassMetrics, ...]


class ThresholdCurve(Card):
    """Figures at each of the thresholds, at an overlap of 0.5."""

    precision: tuple[Probability, ...]
    recall: tuple[Probability, ...]
    f1: tuple[Probability, ...]


class ThresholdCurves(Card):
    """Precision and recall by confidence threshold, measured on one split.

    Attributes:
        confidence: the thresholds, rising; a detection counts if its score is at least the threshold.
        overall: over all classes together.
    """

    confidence: tuple[Probability, ...] = Field(min_length=101)
    overall: ThresholdCurve
    per_class: dict[str, ThresholdCurve]

    @model_validator(mode="after")
    def _same_length(self) -> "ThresholdCurves":
        for curve in (self.overall, *self.per_class.values()):
            if {len(curve.precision), len(curve.recall), len(curve.f1)} != {len(self.confidence)}:
                raise ValueError("every curve needs a point for each threshold")
        return self


class Suppression(Card):
    """Non-maximum suppression in the graph; its parameters were chosen on the validation split, or by who adopted it.

    Attributes:
        iou: boxes of a class that overlap by more than this count as one object: only the best is kept. 1 keeps all, where
            the network itself has chosen.
        class_agnostic: boxes of all classes that overlap count as one object, and a cell has its best class alone.
        floor: boxes with a score of at most this are dropped.
        max_detections: the most boxes of an image.
        soft: keep overlapping boxes with their score times 1 - IoU with the best, unless they overlap by more than
            0.9 (soft non-maximum suppression, Bodla et al. 2017, arXiv:1704.04503).
        spread_penalty: lowers the logit of a score for each unit of the box's spread above the usual one; the spread
            is the mean standard deviation of the four edges, divided by the square root of the area.
        usual_spreads: of each label; empty for 0.
        best_class: a cell has its best class alone.
    """

    iou: Probability
    floor: Probability
    max_detections: int = Field(gt=0)
    class_agnostic: bool = optional(False)
    soft: bool = False
    spread_penalty: float = Field(0.0, ge=0)
    usual_spreads: tuple[float, ...] = ()
    best_class: bool = optional(False)


class DetectorVariant(VariantCard):
    """A variant of a detector, with what was measured on its own answers."""

    metrics: DetectorMetrics
    curves: ThresholdCurves
    test_curves: ThresholdCurves | None = Field(None, exclude_if=lambda curves: curves is None)
    familiarity: FamiliarityCard | None = Field(None, exclude_if=lambda card: card is None)


class DetectorManifest(FamiliarManifest):
    """An object detector: uint8 pixels (batch, height, width, 3) to the best detections, the best first.

    The outputs are `boxes` (batch, detections, 4: x_min, y_min, x_max, y_max in pixels of the input), `scores`
    (batch, detections; 0 fills up) and `classes` (batch, detections: indices of labels).

    Attributes:
        metrics: None for an adopted model that was not evaluated; it has no curves either.
        curves: on the validation split; they choose thresholds.
        test_curves: on the test split, which took no part in the choice. Older versions have only these, as `curves`.
        confidence: the default threshold of a model without curves.
    """

    task: Literal["detection"] = "detection"
    labels: tuple[str, ...]
    image: LetterboxInput
    suppression: Suppression
    metrics: DetectorMetrics | None = optional(None)
    curves: ThresholdCurves | None = optional(None)
    test_curves: ThresholdCurves | None = Field(None, exclude_if=lambda curves: curves is None)
    confidence: Probability | None = optional(None)
    variants: tuple[DetectorVariant, ...] = Field((), exclude_if=lambda variants: not variants)

    @property
    def measured_curves(self) -> ThresholdCurves | None:
        """The curves on the test split."""
        return self.test_curves or self.curves

    @property
    def default_confidence(self) -> float:
        """The threshold with the best balance of precision and recall over all classes, or the stated one."""
        if self.curves is None:
            assert self.confidence is not None  # noqa: S101 - validated
            return self.confidence
        return self.curves.confidence[int(np.argmax(self.curves.overall.f1))]

    @property
    def headline(self) -> dict[str, float]:
        """The main test figures."""
        return {} if self.metrics is None else {"map_50": self.metrics.map_50, "map": self.metrics.map}

    @property
    def main_figure(self) -> MainFigure | None:
        return None if self.metrics is None else MainFigure("map", self.metrics.map)

    @model_validator(mode="after")
    def _check_threshold(self) -> "DetectorManifest":
        if (self.curves is None) == (self.confidence is None):
            raise ValueError("either curves or a confidence choose the default threshold")
        if (self.curves is None) != (self.metrics is None):
            raise ValueError("metrics and curves need each other")
        return self

    @model_validator(mode="after")
    def _check_shapes(self) -> "DetectorManifest":
        most = self.suppression.max_detections
        self.check_shapes([self.image.shape], [(-1, most, 4), (-1, most), (-1, most)], "image and suppression")
        if (names := [spec.name for spec in self.answers]) != ["boxes", "scores", "classes"]:
            raise ValueError(f"its outputs must be boxes, scores and classes, not {', '.join(names)}")
        return self
