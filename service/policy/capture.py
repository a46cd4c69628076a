"""What a serving policy says of captures: which inputs and answers are kept on disk, and within what bounds."""

from typing import Annotated, ClassVar

from pydantic import BaseModel, ConfigDict, Field, model_validator

_Share = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]
_Confidence = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
_MOST_BOXES = 1000


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Strategy(_Table):
    """A reason to keep an item.

    Attributes:
        hourly: the most items that it keeps in an hour of the clock (UTC), over all processes.
        daily: the most in a day (UTC).
    """

    hourly: int = Field(100, ge=1, le=1_000_000)
    daily: int = Field(1000, ge=1, le=10_000_000)


class Random(Strategy):
    """A random share of the items."""

    share: _Share


class Untypical(Strategy):
    """Items whose p-value, `typicality` in the answer, is below a level."""

    below: _Share


class Confidence(Strategy):
    """Items with a score near a threshold: that of the likeliest label, or of any box."""

    near: _Confidence
    within: _Share = 0.1


class Labels(Strategy):
    """Items whose likeliest label, or the label of any box, is one of these."""

    any: tuple[Annotated[str, Field(min_length=1, max_length=200)], ...] = Field(min_length=1, max_length=1000)


class Detections(Strategy):
    """Images with a number of boxes from `least` to `most`."""

    least: int = Field(0, ge=0, le=_MOST_BOXES)
    most: int = Field(_MOST_BOXES, ge=0, le=_MOST_BOXES)

    @model_validator(mode="after")
    def _check_range(self) -> "Detections":
        if self.least > self.most:
            raise ValueError(f"least = {self.least} is above most = {self.most}")
        if (self.least, self.most) == (0, _MOST_BOXES):
            raise ValueError("set least, most or both")
        return self


class Disagreement(Strategy):
    """Items on which the shadow disagrees with the default version."""


class Capture(_Table):
    """The table `[capture]`.

    An item is kept by the first strategy that wants it, in the order of the fields.

    Attributes:
        max_mb: the most MB of items; the oldest are deleted for new ones.
        days: after which an item is deleted.
        min_free_mb: MB of the disk that stay free; below, nothing is kept.
        image_side: pixels of the longer side of an image; larger ones are scaled down.
        jpeg_quality: of images that are encoded anew.
    """

    STRATEGIES: ClassVar = ("random", "untypical", "confidence", "labels", "detections", "disagreement")

    random: Random | None = None
    untypical: Untypical | None = None
    confidence: Confidence | None = None
    labels: Labels | None = None
    detections: Detections | None = None
    disagreement: Disagreement | None = None
    max_mb: float = Field(1000, gt=0, le=1_000_000, allow_inf_nan=False)
    days: float = Field(30, gt=0, le=3650, allow_inf_nan=False)
    min_free_mb: float = Field(1000, ge=0, allow_inf_nan=False)
    image_side: int = Field(1280, ge=16, le=16_384)
    jpeg_quality: int = Field(90, ge=30, le=100)

    @model_validator(mode="after")
    def _check_strategies(self) -> "Capture":
        if not self.strategies:
            tables = ", ".join(f"[capture.{name}]" for name in self.STRATEGIES)
            raise ValueError(f"nothing says which items are kept: add one of {tables}")
        return self

    @property
    def strategies(self) -> dict[str, Strategy]:
        """Those that are set, by name, in order."""
        found = {name: getattr(self, name) for name in self.STRATEGIES}
        return {name: strategy for name, strategy in found.items() if strategy is not None}
