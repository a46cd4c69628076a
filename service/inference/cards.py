"""The parts of a manifest that all tasks share."""

import datetime
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"

# The graph that every version has, and the choice of the fastest good graph. No variant has these names.
REFERENCE = "reference"
AUTO = "auto"

# NumPy's names; `str` is of strings of any length.
Dtype = Literal[
    "bool",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "int8",
    "int16",
    "int32",
    "int64",
    "float16",
    "float32",
    "float64",
    "str",
]
Probability = Annotated[float, Field(ge=0, le=1)]
# Infinity would accept every difference, NaN none.
Tolerance = Annotated[float, Field(gt=0, allow_inf_nan=False)]


def optional(default: Any, **options: Any) -> Any:
    """A field that a written manifest leaves out where it has its default; `options` are those of `Field`."""
    return Field(default, exclude_if=lambda value: value == default, **options)


class Card(BaseModel):
    """A part of a manifest. Unknown fields are an error, so that a misspelt field never passes for a default."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class TensorSpec(Card):
    """One input or output of the graph, by its name there; an axis of -1 is dynamic, the first one is the batch."""

    name: str
    dtype: Dtype
    shape: tuple[int, ...]


class AddedCard(Card):
    """Captured items whose truth was known, added to the training split.

    Attributes:
        items: that were added.
        repeated: left out, since a split of the data had the same input.
        unusable: left out, since they did not fit the data.
    """

    items: int
    repeated: int
    unusable: int


class DataCard(Card):
    """The data that a model was trained and measured on, with the number of items in each split.

    Attributes:
        name: of the data set, with what distinguishes this copy.
        fingerprint: sha256 over all inputs and labels in order.
        division: sha256 of the indices of the calibration half of validation (int64, little-endian, ascending); None
            if it was not recorded. The history says for what each half was used.
        held_out: the splits whose items were taken from the training split; None if that was not recorded.
        added: what was added to the training split, which `train` counts and `fingerprint` does not; None for nothing.
    """

    name: str
    fingerprint: str
    train: int
    validation: int
    test: int
    division: str | None = optional(None)
    held_out: tuple[str, ...] | None = optional(None)
    added: AddedCard | None = optional(None)


class TrainingCard(Card):
    """How a model was trained.

    Attributes:
        settings: every setting of the recipe, including the seed.
        best_epoch: the epoch that was kept, chosen on the validation split.
        chosen_on: number of items of that split that chose it; only in manifests without a `history`.
        parameters: number of parameters, trainable and frozen.
        versions: of the libraries.
    """

    recipe: str
    settings: dict[str, Any]
    epochs_run: int
    best_epoch: int
    chosen_on: int | None = optional(None)
    seconds: float
    parameters: int
    versions: dict[str, str]


class BaselineCard(Card):
    """The cheap model that a training was compared with, on the same splits.

    Attributes:
        name: what it is.
        figure: the name of the compared figure.
        validation: of the baseline, on the selection half of validation; `model_validation` is that of the model.
        items: training items that it was fitted on.
        seconds: that this took.
    """

    name: str
    figure: str
    higher_is_better: bool = optional(True)
    validation: float
    model_validation: float | None = optional(None)
    test: float
    items: int
    seconds: float


class AdoptionCard(Card):
    """The file that a version was made from which was trained elsewhere.

    Attributes:
        source: the name of the file.
        sha256: of it, as it was given.
        size: in bytes.
        producer: the library that wrote it, as the file states.
        opsets: versions by domain.
        command: that adopted it.
        changes: what was changed in the graph.
        metadata: what the exporter wrote beside the graph, as texts by name; clients of /v2 may need it.
        samples: what the golden inputs are: given, random, or the pictures that ship with the service.
        batching: how it was decided whether the graph takes batches.
    """

    source: str
    sha256: str
    size: int
    producer: str = optional("")
    opsets: dict[str, int]
    command: str
    changes: tuple[str, ...] = optional(())
    metadata: dict[str, str] = optional({})
    samples: Literal["given", "random", "examples"]
    batching: str


class Origin(Card):
    """A file of the model `NAME/VERSION`, or of a run, that a step read: initial weights, or a teacher."""

    name: str
    file: str
    sha256: str | None


class Use(Card):
    """The purpose for which a step used items of a split.

    Attributes:
        purpose: what the items determined; for the test split, what was measured.
        part: the part of the split, such as `selection`; `all` for the whole split.
        partition: identifies the division of the split that `part` belongs to. Parts of different divisions overlap.
    """

    split: Literal["train", "validation", "test"]
    purpose: str
    items: int = Field(ge=0)
    part: str = optional("all")
    partition: str = optional("")

    def overlaps(self, other: "Use") -> bool:
        """Whether both may have used the same items."""
        if self.split != other.split:
            return False
        return "all" in (self.part, other.part) or self.partition != other.partition or self.part == other.part


class Step(Card):
    """One command that trained, changed or measured a version, or a version whose weights it started from.

    A field is None if it was not recorded.

    Attributes:
        kind: `train`, or the name of a command for published versions.
        date: of its end.
        resumed: the epochs after which a training continued from its checkpoint.
        machine: the processor or the GPU.
        threads: of PyTorch.
        data: the fingerprint.
    """

    kind: str
    command: str | None = None
    date: datetime.date | None = None
    settings: dict[str, Any] = optional({})
    epochs: int | None = optional(None)
    best_epoch: int | None = optional(None)
    resumed: tuple[int, ...] = optional(())
    seconds: float | None = None
    machine: str | None = None
    threads: int | None = None
    data: str | None = None
    initial: Origin | None = optional(None)
    teacher: Origin | None = optional(None)
    uses: tuple[Use, ...] | None = None
    note: str = optional("")


class ListCard(Card):
    """How answers are compared that are lists; all outputs have the shape (batch, entries, ...).

    Attributes:
        order: the output that ranks the entries.
        above: entries with a lower value of `order` are not compared.
        tolerances: the largest accepted absolute difference, by the name of the output.
    """

    order: str
    above: float
    tolerances: dict[str, Tolerance]


class GoldenCard(Card):
    """How the answers of a session are compared with the golden file.

    Attributes:
        rows: number of inputs in the file.
        chosen_from: number of inputs from which those were chosen on which kernels differ least; None if all were kept.
        atol: the largest accepted absolute difference.
        tolerances: the same for single outputs, by name.
        labels: the true label of each input; None if that was not recorded, or inputs have no single label.
    """

    file: str = optional("golden.npz")
    rows: int
    chosen_from: int | None = optional(None)
    atol: Tolerance
    tolerances: dict[str, Tolerance] = optional({})
    lists: ListCard | None = optional(None)
    labels: tuple[str, ...] | None = optional(None)

    @model_validator(mode="after")
    def _check_labels(self) -> Self:
        if self.labels is not None and len(self.labels) != self.rows:
            raise ValueError(f"there are {len(self.labels)} labels for {self.rows} rows")
        return self


class Speed(Card):
    """How fast a variant and its reference ran, alternately, in ONNX Runtime without the service.

    Attributes:
        machine: the processor or the GPU, and its relevant features.
        threads: of the CPU provider.
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
    """The figure on the validation split for which a variant was accepted, and its value for variant and reference."""

    figure: str
    value: float
    reference: float


class VariantCard(Card):
    """A graph with the same inputs and outputs as the reference, `model.onnx`: smaller or faster, slightly less exact.

    A task adds fields of its manifest that differ for this graph: figures, calibration, thresholds.

    Attributes:
        method: how it was made.
        size: of the graph's file, in bytes.
        intervals: 95 % intervals of its test figures, by their names.
        validation: why it was accepted.
        speed: on the machine that made it.
    """

    name: str = Field(pattern=r"^[a-z][a-z0-9_-]*$")
    file: str
    device: Literal["cpu", "cuda"]
    method: str
    golden: GoldenCard
    size: int = Field(gt=0)
    intervals: dict[str, tuple[float, float]] = optional({})
    validation: Kept | None = None
    speed: tuple[Speed, ...] = ()


class MainFigure(NamedTuple):
    """The test figure by which two versions of a model are compared.

    Attributes:
        name: as in `intervals`.
        value: on the test split.
        higher_is_better: False for an error.
        is_share: whether it is a share of the test items, so that their number tells its interval.
    """

    name: str
    value: float
    higher_is_better: bool = True
    is_share: bool = False


class ManifestBase(Card):
    """The manifest of any task.

    Attributes:
        former_tasks: names that manifests of earlier versions state in place of `task`.
    """

    former_tasks: ClassVar[tuple[str, ...]] = ()

    format: Literal[1] = 1
    task: str
    name: str = Field(pattern=NAME_PATTERN)
    description: str
    labels: tuple[str, ...] = ()
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    max_batch: int = Field(gt=0, description="the largest batch that was checked")
    batched: bool = optional(
        True,
        description="whether the first axis of its tensors is the batch; if not, an item is all of its tensors",
    )
    data: DataCard | None = optional(None, description="absent if it was adopted without data")
    training: TrainingCard | None = optional(None, description="absent if it was adopted")
    adopted: AdoptionCard | None = optional(None, description="the file that it was made from, if it was adopted")
    history: tuple[Step, ...] = optional((), description="how it was made, step by step; empty if unknown")
    golden: GoldenCard
    intervals: dict[str, tuple[float, float]] = optional(
        {}, description="95 % intervals of test figures, by their names"
    )
    baseline: BaselineCard | None = optional(None)
    files: dict[str, str] = Field(description="sha256 of every file beside this one that serving reads")
    variants: tuple[VariantCard, ...] = optional(())

    @model_validator(mode="after")
    def _distinct_variants(self) -> Self:
        names = [REFERENCE, AUTO, *(variant.name for variant in self.variants)]
        if len({*names}) < len(names):
            raise ValueError(f"variants need names of their own, other than {REFERENCE} and {AUTO}")
        return self

    @model_validator(mode="after")
    def _one_item_without_batches(self) -> Self:
        if not self.batched and self.max_batch != 1:
            raise ValueError("max_batch must be 1 without a batch axis")
        return self

    def as_variant(self, variant: VariantCard) -> Self:
        """The manifest for a variant's answers: the fields of its card replace those of the same name."""
        own = type(variant).model_fields.keys() & type(self).model_fields.keys() - {"name"}
        return self.model_copy(update={name: getattr(variant, name) for name in own})

    @property
    def headline(self) -> dict[str, float]:
        """The main test figures."""
        return {}

    @property
    def main_figure(self) -> MainFigure | None:
        """The test figure that decides between two versions; None if there is none."""
        return None

    @property
    def companions(self) -> tuple[str, ...]:
        """The files that serving reads beside the graph and the golden file."""
        return ()

    @property
    def longest(self) -> int:
        """The largest length of an input's dynamic axes other than the batch axis."""
        return 1

    @property
    def pads(self) -> bool:
        """Whether inputs of different lengths may be padded with zeros at the end, which the graph ignores."""
        return False

    @property
    def bounds(self) -> Mapping[str, tuple[Any, Any]]:
        """By input, the least and the greatest values that the graph can look up: numbers, or an array per feature."""
        return {}

    @property
    def required(self) -> Mapping[str, Any]:
        """By input, an array that says for each feature whether NaN, a missing value, is refused."""
        return {}
