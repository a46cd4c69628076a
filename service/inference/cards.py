"""What every manifest says, whatever the task."""

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
        parameters: how many the network has, trainable and frozen.
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
    task: str
    name: str = Field(pattern=NAME_PATTERN)
    description: str
    labels: tuple[str, ...] = ()
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    max_batch: int = Field(gt=0, description="the largest batch that was checked against PyTorch")
    data: DataCard
    training: TrainingCard
    golden: GoldenCard
    files: dict[str, str] = Field(description="sha256 of every file beside this one that serving reads")

    @property
    def headline(self) -> dict[str, float]:
        """The test figures that say how good it is in a line."""
        return {}

    @property
    def companions(self) -> tuple[str, ...]:
        """The files that serving reads beside the graph and the golden file."""
        return ()

    @property
    def longest(self) -> int:
        """The largest length of an input's dynamic axes other than the batch axis."""
        return 1
