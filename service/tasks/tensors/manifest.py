"""The manifest of a graph without a task of its own."""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, model_validator

from service.inference.cards import ManifestBase, optional


class TensorsManifest(ManifestBase):
    """Named tensors of any shapes to named tensors.

    Attributes:
        max_length: the largest size of an open axis that clients may send.
        ranges: by input, the least and the greatest value that clients may send; NaN is let through.
    """

    task: Literal["tensors"] = "tensors"
    max_length: int = Field(gt=0)
    ranges: dict[str, tuple[float, float]] = optional({})

    @property
    def longest(self) -> int:
        return self.max_length

    @property
    def bounds(self) -> Mapping[str, tuple[Any, Any]]:
        return self.ranges

    @model_validator(mode="after")
    def _check_tensors(self) -> "TensorsManifest":
        if self.batched and any(spec.shape[:1] != (-1,) for spec in (*self.inputs, *self.outputs)):
            raise ValueError("the first axis of every tensor of a graph with batches must be open")
        numbers = {spec.name for spec in self.inputs if spec.dtype != "str"}
        if unknown := self.ranges.keys() - numbers:
            raise ValueError(f"ranges: {', '.join(sorted(unknown))} is no input of numbers")
        if any(least > greatest for least, greatest in self.ranges.values()):
            raise ValueError("ranges: the least value is above the greatest")
        return self
