"""The manifest of an object detector."""

from typing import Literal

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

    @property
    def best_f1(self) -> float:
        """The threshold with the best balance of precision and recall, over all classes."""
        f1 = self.overall.f1
        return self.confidence[f1.index(max(f1))]


class Suppression(Card):
    """Non-maximum suppression in the graph; its parameters were chosen on the validation split, or at adoption.

    Attributes:
        iou: boxes of a class that overlap by more than this count as one object: only the best is kept. 1 where the
            network itself answers with the boxes to keep.
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
        confidence: the default threshold of a detector that was never evaluated.
        curves: on the validation split; they choose thresholds. None if it was never evaluated.
        test_curves: on the test split, which took no part in the choice. Older versions have only these, as `curves`.
    """

    former_tasks = ("object-detection",)
    task: Literal["detection"] = "detection"
    labels: tuple[str, ...]
    image: LetterboxInput
    suppression: Suppression
    confidence: Probability | None = optional(None)
    metrics: DetectorMetrics | None = optional(None)
    curves: ThresholdCurves | None = optional(None)
    test_curves: ThresholdCurves | None = optional(None)
    variants: tuple[DetectorVariant, ...] = Field((), exclude_if=lambda variants: not variants)

    @property
    def measured_curves(self) -> ThresholdCurves | None:
        """The curves on the test split."""
        return self.test_curves or self.curves

    @property
    def default_confidence(self) -> float:
        """The threshold that counts unless a client chooses one: that of the best F1 on the validation split."""
        return self.curves.best_f1 if self.curves else self.confidence or 0.0

    @property
    def headline(self) -> dict[str, float]:
        """The main test figures."""
        return {"map_50": self.metrics.map_50, "map": self.metrics.map} if self.metrics else {}

    @property
    def main_figure(self) -> MainFigure | None:
        return MainFigure("map", self.metrics.map) if self.metrics else None

    @model_validator(mode="after")
    def _check_shapes(self) -> "DetectorManifest":
        if (self.curves is None) == (self.confidence is None):
            raise ValueError("it needs either curves or a confidence")
        most = self.suppression.max_detections
        self.check_shapes([self.image.shape], [(-1, most, 4), (-1, most), (-1, most)], "image and suppression")
        if (names := [spec.name for spec in self.answers]) != ["boxes", "scores", "classes"]:
            raise ValueError(f"its outputs must be boxes, scores and classes, not {', '.join(names)}")
        return self
