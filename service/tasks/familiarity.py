"""Out-of-distribution detection: a p-value beside the answers of graphs that compute one."""

from collections.abc import Sequence
from typing import Any

from pydantic import Field, model_validator

from service.errors import InvalidRequest
from service.inference.cards import TensorSpec
from service.tasks.base import Options
from service.tasks.cards import FamiliarityCard
from service.tasks.histograms import ObservedManifest

# The last output of such graphs, float32, shape (batch,).
UNFAMILIAR = "unfamiliar"
# Its name in answers.
TYPICALITY = "typicality"

Shape = tuple[int, ...]


class FamiliarManifest(ObservedManifest):
    """A manifest of a model whose graph may have the output `unfamiliar`; only then it has a `familiarity`."""

    familiarity: FamiliarityCard | None = Field(None, exclude_if=lambda card: card is None)

    @property
    def answers(self) -> tuple[TensorSpec, ...]:
        """The outputs but `unfamiliar`."""
        return self.outputs[:-1] if self.familiarity else self.outputs

    @model_validator(mode="after")
    def _check_familiarity(self) -> "FamiliarManifest":
        wanted = TensorSpec(name=UNFAMILIAR, dtype="float32", shape=(-1,))
        if (wanted in self.outputs[-1:]) != (self.familiarity is not None):
            raise ValueError(f"familiarity and a last output {UNFAMILIAR!r} of (-1,) need each other")
        return self

    def check_shapes(self, inputs: list[Shape], outputs: list[Shape], needed_by: str) -> None:
        """Raises ValueError unless the inputs and `answers` have the shapes that other fields need."""
        if ([spec.shape for spec in self.inputs], [spec.shape for spec in self.answers]) != (inputs, outputs):
            raise ValueError(f"its {needed_by} need tensors of {inputs} and {outputs}")


class StrictOptions(Options):
    """The options of an operation whose answers hold `typicality`."""

    strict: bool = Field(
        False,
        description="empties the result of an input that is unlike the training data: `typicality` below `level`. "
        "Refused if the model has no p-values",
    )
    level: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="for `strict`: on average over calibration sets at most this share of inputs like the calibration "
        "items is refused too. The default is the lowest of 0.01, 0.05 and 0.1 that is above the smallest p-value of "
        "the model, `1 / (calibrated_on + 1)`",
    )


def typicality_field() -> Any:
    """The field `typicality` of an answer."""
    return Field(
        None,
        ge=0,
        le=1,
        examples=[0.41],
        description="how typical the input is of the training data, a p-value: the share of the model's calibration "
        "items, this input included, that are at least as unlike the training data. At 0.003 the input is probably out "
        "of distribution, whatever the rest says. Never below `1 / (calibrated_on + 1)`. Absent if the model has no "
        "p-values",
    )


def unfamiliar_field() -> Any:
    """The field `unfamiliar` of an answer, the former name of `typicality`."""
    return Field(
        None, ge=0, le=1, examples=[0.41], deprecated=True, description="the former name of `typicality`, a p-value"
    )


def strict_level(manifest: FamiliarManifest, options: StrictOptions) -> float | None:
    """The p-value below which an input is refused; None without `strict`.

    Raises:
        InvalidRequest: the model has no p-values, or none below the level.
    """
    if not options.strict:
        return None
    card = manifest.familiarity
    if card is None:
        raise InvalidRequest(
            f"strict=true: {manifest.name} has no p-values: leave it out, or use a version whose answers hold "
            "`typicality`.",
            parameter="strict",
        )
    if options.level is None:
        return card.level
    if options.level <= card.smallest:
        raise InvalidRequest(
            f"level={options.level:g} would refuse nothing: the p-values of {manifest.name} were calibrated on "
            f"{card.calibrated_on} items and are never below {card.smallest:.2g}. Use a higher level, or leave it out "
            f"for {card.level:g}.",
            parameter="level",
        )
    return options.level


def with_familiarity(
    result: dict[str, Any], more: Sequence[Any], level: float | None = None, **refused: Any
) -> dict[str, Any]:
    """Adds `typicality` to the result of an input, in place, and its former name `unfamiliar`.

    Args:
        result: of the input.
        more: the graph's other outputs for the input; empty for a graph without `unfamiliar`.
        level: of `strict_level`.
        **refused: replaces the fields of a result whose `typicality` is below the level; absent fields stay absent.
    """
    if more:
        # No calibration set supports more than six decimals.
        result[TYPICALITY] = result[UNFAMILIAR] = round(float(more[0]), 6)
    if level is not None and result[TYPICALITY] < level:
        result.update((name, value) for name, value in refused.items() if name in result)
    return result
