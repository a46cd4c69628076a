"""What every manifest says, whatever the task, and the parts that several tasks share."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"

Probability = Annotated[float, Field(ge=0, le=1)]


class Card(BaseModel):
    """A part of a manifest: unknown fields are an error, so that a typing slip never passes for a default."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class TensorSpec(Card):
    """One input or output of the graph.

    Attributes:
        name: as in the graph.
        dtype: as numpy names it.
        shape: -1 is a dynamic axis; the first axis is the batch.
    """

    name: str
    dtype: Literal["uint8", "int64", "float32"]
    shape: tuple[int, ...]


class ImageInput(Card):
    """How to prepare an image: the largest centred part of this aspect, resized with antialiasing (bicubic).

    Attributes:
        height: in pixels; likewise `width`.
        channels: 1 for grey, 3 for RGB.
        background: the brightness (0 to 1) that the edges of all training images have, where they have one; tells
            a picture on white paper from one on black.
    """

    height: int = Field(gt=0)
    width: int = Field(gt=0)
    channels: Literal[1, 3]
    background: Probability | None = Field(None, exclude_if=lambda value: value is None)


class Calibration(Card):
    """Temperature scaling (Guo et al. 2017, arXiv:1706.04599), fitted on validation, measured on test.

    Attributes:
        temperature: the logits were divided by it (inside the graph).
        ece_before: expected calibration error in 15 equal-width bins, without it.
        ece_after: likewise, with it.
    """

    temperature: float = Field(gt=0)
    ece_before: Probability
    ece_after: Probability


class DataCard(Card):
    """What a model learned from and was measured on.

    Attributes:
        name: the data set, with whatever sets this copy apart.
        fingerprint: sha256 over all pixels and labels in order.
        train: how many items trained it; likewise `validation` and `test`.
    """

    name: str
    fingerprint: str
    train: int
    validation: int
    test: int


class TrainingCard(Card):
    """What made a model.

    Attributes:
        recipe: the command.
        settings: every setting of the recipe, the seed among them.
        epochs_run: epochs trained.
        best_epoch: the epoch that was kept, chosen on the validation split.
        seconds: wall-clock time of the training.
        parameters: trainable and fixed numbers in the network.
        versions: of the libraries that made it.
    """

    recipe: str
    settings: dict[str, Any]
    epochs_run: int
    best_epoch: int
    seconds: float
    parameters: int
    versions: dict[str, str]


class ListCard(Card):
    """How answers are compared that are lists, all outputs being parallel: (batch, entries, ...).

    Attributes:
        order: the output that ranks the entries.
        above: entries that it ranks lower are not compared.
        tolerances: the largest absolute difference that is accepted, by the name of the output.
    """

    order: str
    above: float
    tolerances: dict[str, Annotated[float, Field(gt=0)]]


class GoldenCard(Card):
    """How `golden.npz` is to be compared.

    Attributes:
        rows: how many inputs it holds.
        atol: the largest absolute difference from PyTorch's output that is accepted.
        tolerances: likewise for single outputs, by name.
        lists: how the outputs are compared if they are lists.
    """

    rows: int
    atol: float
    tolerances: dict[str, Annotated[float, Field(gt=0)]] = Field({}, exclude_if=lambda tolerances: not tolerances)
    lists: ListCard | None = Field(None, exclude_if=lambda lists: lists is None)


class ManifestBase(Card):
    """What every task's manifest says."""

    format: Literal[1] = 1
    name: str = Field(pattern=NAME_PATTERN)
    description: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    max_batch: int = Field(gt=0, description="the largest batch that was checked against PyTorch")
    data: DataCard
    training: TrainingCard
    golden: GoldenCard
    files: dict[str, str] = Field(description="sha256 of every file beside this one that serving reads")

    @property
    def companions(self) -> tuple[str, ...]:
        """Files that serving reads, the graph and the golden file apart."""
        return ()

    @property
    def longest(self) -> int:
        """The length of an input's dynamic axes, the batch apart, at the most."""
        return 1
