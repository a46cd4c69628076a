"""How unlike the training data an input is, where a version's graph tells: a p-value beside its answers."""

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import Field, model_validator

from service.errors import InvalidRequest
from service.inference.cards import ManifestBase, TensorSpec
from service.tasks.base import Options
from service.tasks.cards import FamiliarityCard

# The last output of graphs that tell, float32, shape (batch,).
UNFAMILIAR = "unfamiliar"


class FamiliarManifest(ManifestBase):
    """A manifest of a model whose graph may tell how unlike its training data an item is.

    Attributes:
        familiarity: what is known of that; None for a graph that does not tell.
    """

    familiarity: FamiliarityCard | None = Field(None, exclude_if=lambda card: card is None)

    @property
    def answers(self) -> tuple[TensorSpec, ...]:
        """The outputs but `unfamiliar`."""
        return self.outputs[:-1] if self.familiarity else self.outputs

    @model_validator(mode="after")
    def _tells(self) -> "FamiliarManifest":
        wanted = TensorSpec(name=UNFAMILIAR, dtype="float32", shape=(-1,))
        if (wanted in self.outputs[-1:]) != (self.familiarity is not None):
            raise ValueError(f"familiarity and a last output {UNFAMILIAR!r} of (-1,) need each other")
        return self


class StrictOptions(Options):
    """The options of an operation whose answers tell how unlike the training data an input is."""

    strict: bool = Field(
        False, description="names nothing for an input that is unlike the training data: `unfamiliar` below `level`"
    )
    level: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="for `strict`: on average over calibration sets at most this share of inputs like the calibration "
        "items is refused too. The default is the lowest of 0.01, 0.05 and 0.1 that is above the smallest p-value of "
        "the model, `1 / (calibrated_on + 1)`",
    )


def unfamiliar_field() -> Any:
    """The field of an answer."""
    return Field(
        None,
        ge=0,
        le=1,
        examples=[0.41],
        description="a p-value: the share of the model's calibration items, this input included, that are at least as "
        "unlike the training data; 0.003 means that this is probably nothing the model was trained for, whatever the "
        "rest says. Never below `1 / (calibrated_on + 1)`. Absent where the model does not tell",
    )


def strict_bounds(manifest: FamiliarManifest) -> dict[str, Any]:
    """What a model accepts for `strict`; see `service.tasks.base.Operation.bounds`."""
    accepted = {} if manifest.familiarity else {"enum": [False]}
    return {"strict": {"type": "boolean", "default": False, **accepted}}


def strict_level(manifest: FamiliarManifest, options: StrictOptions) -> float | None:
    """The p-value below which nothing is named for an input; None without `strict`.

    Raises:
        InvalidRequest: the model cannot tell, or never gives so small a p-value.
    """
    if not options.strict:
        return None
    card = manifest.familiarity
    if card is None:
        raise InvalidRequest(
            f"strict=true: {manifest.name} does not tell how unlike its training data an input is: leave it out, or "
            "ask a version whose answers hold `unfamiliar`."
        )
    if options.level is None:
        return card.level
    if options.level <= card.smallest:
        raise InvalidRequest(
            f"level={options.level:g} would refuse nothing: the p-values of {manifest.name} were calibrated on "
            f"{card.calibrated_on} items and are never below {card.smallest:.2g}. Use a higher level, or leave it out "
            f"for {card.level:g}."
        )
    return options.level


def with_familiarity(result: dict[str, Any], more: Sequence[Any]) -> dict[str, Any]:
    """A result, with `unfamiliar` if the graph tells.

    Args:
        result: of an input; it is changed.
        more: the graph's outputs for the input beyond those that made the result.
    """
    if more:
        # Six decimals are more than any calibration can mean.
        result[UNFAMILIAR] = round(float(more[0]), 6)
    return result


def apply_strict(
    result: dict[str, Any], more: Sequence[Any], level: float | None, nothing: Mapping[str, Any]
) -> dict[str, Any]:
    """A result with `unfamiliar` if the graph tells; with nothing named if that is below a level.

    Args:
        result: of an input; it is changed.
        more: the graph's outputs for the input beyond those that made the result.
        level: as `strict_level` gives it.
        nothing: what takes the place of the result's fields, as far as it has them.
    """
    with_familiarity(result, more)
    if level is not None and result[UNFAMILIAR] < level:
        result.update((name, value) for name, value in nothing.items() if name in result)
    return result
