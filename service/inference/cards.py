"""The parts of a manifest that all tasks have in common."""

import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"

# The graph that every version has, and the choice of the fastest good graph; reserved names for variants.
REFERENCE = "reference"
AUTO = "auto"

Probability = Annotated[float, Field(ge=0, le=1)]
# A tolerance of infinity or NaN would accept anything, or nothing.
Tolerance = Annotated[float, Field(gt=0, allow_inf_nan=False)]


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
    """The data that a model was trained and measured on.

    Attributes:
        name: of the data set, with what distinguishes this copy.
        fingerprint: sha256 over all inputs and labels in order.
        train: number of items in the training split.
        validation: number of items in the validation split.
        test: number of items in the test split.
        division: sha256 of the indices of the calibration half of validation (int64, little-endian, ascending); None
            for versions from before it was recorded. The history says what either half was used for.
        held_out: the splits whose items were taken from the training split; None if that was not recorded.
    """

    name: str
    fingerprint: str
    train: int
    validation: int
    test: int
    division: str | None = Field(None, exclude_if=lambda division: division is None)
    held_out: tuple[str, ...] | None = Field(None, exclude_if=lambda held_out: held_out is None)


class TrainingCard(Card):
    """How a model was trained.

    Attributes:
        recipe: the command.
        settings: every setting of the recipe, the seed among them.
        epochs_run: epochs trained.
        best_epoch: the epoch that was kept, chosen on the validation split.
        chosen_on: how many items of that split chose it; only in manifests without a `history`.
        seconds: wall-clock time of the training.
        parameters: number of parameters, trainable and frozen.
        versions: of the libraries.
    """

    recipe: str
    settings: dict[str, Any]
    epochs_run: int
    best_epoch: int
    chosen_on: int | None = Field(None, exclude_if=lambda chosen_on: chosen_on is None)
    seconds: float
    parameters: int
    versions: dict[str, str]


class Origin(Card):
    """A file that a step read beside the data: initial weights, or a teacher.

    Attributes:
        name: `NAME/VERSION`, or the name of a run.
        file: its name.
        sha256: of the file; None if it was not recorded.
    """

    name: str
    file: str
    sha256: str | None


class Use(Card):
    """The purpose for which a step used items of a split.

    Attributes:
        split: the items' split.
        purpose: what the items determined; for the test split, what was measured.
        items: number of items.
        part: the part of the split, such as `selection`; `all` for the whole split.
        partition: identifies the division of the split that `part` belongs to. Parts of different divisions overlap.
    """

    split: Literal["train", "validation", "test"]
    purpose: str
    items: int = Field(ge=0)
    part: str = Field("all", exclude_if=lambda part: part == "all")
    partition: str = Field("", exclude_if=lambda partition: not partition)

    def overlaps(self, other: "Use") -> bool:
        """Whether both may have used the same items."""
        if self.split != other.split:
            return False
        return "all" in (self.part, other.part) or self.partition != other.partition or self.part == other.part


class Step(Card):
    """One command that trained, changed or measured a version, or a version whose weights it started from.

    Attributes:
        kind: what the command is called: `train`, or the name of one for published versions.
        command: as it was given; None if it was not recorded.
        date: of its end.
        settings: of a training.
        epochs: of a training, in total.
        best_epoch: the one whose weights were kept.
        resumed: after which epochs a training was continued from its checkpoint.
        seconds: wall-clock time.
        machine: the processor or the GPU.
        threads: of PyTorch.
        data: the fingerprint.
        initial: the weights that it started from.
        teacher: the model that it learned from.
        uses: of the splits; None if they were not recorded.
        note: what else is known.
    """

    kind: str
    command: str | None = None
    date: datetime.date | None = None
    settings: dict[str, Any] = Field({}, exclude_if=lambda settings: not settings)
    epochs: int | None = Field(None, exclude_if=lambda value: value is None)
    best_epoch: int | None = Field(None, exclude_if=lambda value: value is None)
    resumed: tuple[int, ...] = Field((), exclude_if=lambda resumed: not resumed)
    seconds: float | None = None
    machine: str | None = None
    threads: int | None = None
    data: str | None = None
    initial: Origin | None = Field(None, exclude_if=lambda value: value is None)
    teacher: Origin | None = Field(None, exclude_if=lambda value: value is None)
    uses: tuple[Use, ...] | None = None
    note: str = Field("", exclude_if=lambda note: not note)


class ListCard(Card):
    """How answers are compared that are lists; all outputs have the shape (batch, entries, ...).

    Attributes:
        order: the output that ranks the entries.
        above: entries with a lower value of `order` are not compared.
        tolerances: the largest absolute difference that is accepted, by the name of the output.
    """

    order: str
    above: float
    tolerances: dict[str, Tolerance]


class GoldenCard(Card):
    """How the golden file is to be compared.

    Attributes:
        file: its name.
        rows: how many inputs it holds.
        chosen_from: number of inputs from which those were chosen on which kernels differ least; None if all were kept.
        atol: the largest absolute difference that is accepted.
        tolerances: the same for single outputs, by name.
        lists: how the outputs are compared if they are lists.
    """

    file: str = Field("golden.npz", exclude_if=lambda file: file == "golden.npz")
    rows: int
    chosen_from: int | None = Field(None, exclude_if=lambda chosen_from: chosen_from is None)
    atol: Tolerance
    tolerances: dict[str, Tolerance] = Field({}, exclude_if=lambda tolerances: not tolerances)
    lists: ListCard | None = Field(None, exclude_if=lambda lists: lists is None)


class Speed(Card):
    """How fast a variant and its reference ran, alternately, in ONNX Runtime without the service.

    Attributes:
        device: `cpu` or `cuda`.
        machine: the processor or the GPU, and its relevant features.
        threads: of the CPU provider.
        batch: items in a batch.
        items_per_second: of the variant.
        reference: items per second of the reference.
    """

    device: Literal["cpu", "cuda"]
    machine: str
    threads: int = Field(gt=0)
    batch: int = Field(gt=0)
    items_per_second: float = Field(gt=0)
    reference: float = Field(gt=0)


class Kept(Card):
    """The figure on the validation split for which a variant was accepted.

    Attributes:
        figure: its name.
        value: of the variant.
        reference: of the reference.
    """

    figure: str
    value: float
    reference: float


class VariantCard(Card):
    """A graph with the same inputs and outputs as the reference, `model.onnx`: smaller or faster, slightly less exact.

    A task adds fields of its manifest that differ for this graph: figures, calibration, thresholds.

    Attributes:
        name: of the variant.
        file: of the graph.
        device: where it runs.
        method: how it was made.
        golden: its own golden file.
        size: of the graph's file, in bytes.
        intervals: 95 %, of its test figures, by their names.
        validation: why it was accepted.
        speed: on the machine that made it.
    """

    name: str = Field(pattern=r"^[a-z][a-z0-9_-]*$")
    file: str
    device: Literal["cpu", "cuda"]
    method: str
    golden: GoldenCard
    size: int = Field(gt=0)
    intervals: dict[str, tuple[float, float]] = Field({}, exclude_if=lambda intervals: not intervals)
    validation: Kept | None = None
    speed: tuple[Speed, ...] = ()


class ManifestBase(Card):
    """The manifest of any task."""

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
    history: tuple[Step, ...] = Field(
        (), exclude_if=lambda history: not history, description="how it was made, step by step; empty if unknown"
    )
    golden: GoldenCard
    intervals: dict[str, tuple[float, float]] = Field(
        {}, exclude_if=lambda intervals: not intervals, description="95 % intervals of test figures, by their names"
    )
    files: dict[str, str] = Field(description="sha256 of every file beside this one that serving reads")
    variants: tuple[VariantCard, ...] = Field((), exclude_if=lambda variants: not variants)

    @model_validator(mode="after")
    def _distinct_variants(self) -> Self:
        names = [REFERENCE, AUTO, *(variant.name for variant in self.variants)]
        if len({*names}) < len(names):
            raise ValueError(f"variants need names of their own, other than {REFERENCE} and {AUTO}")
        return self

    def as_variant(self, variant: VariantCard) -> Self:
        """The manifest for a variant's answers: fields that its card has replace those of the same name."""
        own = type(variant).model_fields.keys() & type(self).model_fields.keys() - {"name"}
        return self.model_copy(update={name: getattr(variant, name) for name in own})

    @property
    def headline(self) -> dict[str, float]:
        """The main test figures."""
        return {}

    @property
    def companions(self) -> tuple[str, ...]:
        """The files that serving reads beside the graph and the golden file."""
        return ()

    @property
    def longest(self) -> int:
        """The largest length of an input's dynamic axes other than the batch axis."""
        return 1
