"""The parts of a task: loading, routes and documentation follow from one entry.

An entry names the class of the manifest, a reader for the files beside the graph (the companion), and the operations
that clients may ask for. To add a task, write its entry and register it (`service.tasks.registry`).
"""

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from service.inference.cards import ManifestBase
from service.tasks.call import Call
from service.tasks.histograms import Part


class Options(BaseModel):
    """The options of an operation; each has a default. A misspelt option is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str
    version: str | None = Field(
        None,
        min_length=1,
        max_length=64,
        description="which version answers: a number or an alias; without it the default one, or its canary",
    )


def model_option(default: str) -> Any:
    """The field of the model that answers."""
    return Field(default, description="which model answers, `NAME` or `NAME/VERSION`; `GET /v1/models` lists them")


class AnswerBase(BaseModel):
    """The fields that all answers have: what gave them."""

    model: str = Field(examples=["classifier"])
    version: str = Field(examples=["1"])
    alias: str | None = Field(
        None,
        examples=["stable"],
        description="by which the call came, or the first of the version; absent without one",
    )
    device: str = Field(examples=["cpu"], description="where it ran: cpu, cuda or cuda:N")
    variant: str = Field(examples=["reference"], description="which graph of the version ran: `reference`, int8, …")


@dataclass(frozen=True, slots=True)
class Images:
    """The input is one or many encoded images: the call's inputs are `Upload`s.

    Attributes:
        example: a small image in base64 for the documentation.
    """

    example: str


@dataclass(frozen=True, slots=True)
class Format:
    """A format of the document that an operation reads.

    Attributes:
        schema: JSON Schema of the document, given the manifest of a served model (None without one) and the most
            inputs that are accepted. Its title, if it has one, is its name in the OpenAPI document.
        parse: reads at least one input from a body, given the manifest of the model and the most inputs that are
            accepted. Raises `InvalidRequest` for a malformed document, `BodyTooLarge` for one with more inputs.
        example: a valid document, given the manifest of the default model (None if it is not served).
    """

    schema: Callable[[Any, int], Mapping[str, Any]]
    parse: Callable[[bytes, Any, int], Sequence[Any]]
    example: Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class Records:
    """How the rows of a table become inputs.

    Attributes:
        columns: names of the columns that an input is made from, given the manifest.
        read: the inputs of some records (mappings by column), given the manifest; raises `InvalidRequest`.
        cell: the value of a cell of a CSV file.
        write: the inverse of `read` for a single input; None if inputs are not worth keeping.
    """

    columns: Callable[[Any], tuple[str, ...]]
    read: Callable[[list[Any], Any], Sequence[Any]]
    cell: Callable[[str], Any] = str
    write: Callable[[Any, Any], dict[str, Any]] | None = None


@dataclass(frozen=True, slots=True)
class Documents:
    """The input is a document.

    Attributes:
        formats: by media type; the first one is the default.
        required: whether an empty body is an error.
        records: how the rows of a table become inputs; None if they cannot.
    """

    formats: Mapping[str, Format]
    required: bool = True
    records: Records | None = None


@dataclass(slots=True)
class Results:
    """One result for each input, in order, as plain JSON types; `common` holds the fields beside them."""

    items: list[dict[str, Any]]
    common: Mapping[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Picture:
    """A PNG instead of results."""

    data: bytes


@dataclass(slots=True)
class Stream:
    """An answer that is made while it is sent.

    Attributes:
        chunks: its parts. An error before the first is answered as usual; a later one ends the connection, so that
            the client cannot take a part for the whole.
        media_type: of the whole.
        filename: for the header Content-Disposition; None if clients show the answer rather than save it.
        facts: values for the headers that `Operation.facts` describes.
    """

    chunks: AsyncGenerator[bytes, None]
    media_type: str
    filename: str | None = None
    facts: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Operation:
    """What clients may ask of a model, served as POST /v1/<name>.

    Attributes:
        name: the last part of the path.
        summary: a title of a few words.
        run: answers a call; its docstring is the description in the OpenAPI document.
        options: of the query.
        reads: the kind of input.
        answer: the model of a JSON answer.
        media_types: of other answers.
        facts: descriptions of the facts of a stream, by name; None if the answer is no stream.
        items: how many items a request is, given its inputs and options; the log states it, the rates of keys and the
            limit of items count it.
        bounds: what JSON Schema knows of the values that a model accepts, by option, given its manifest and the most
            items in a request: limits of numbers, and examples.
    """

    name: str
    summary: str
    run: Callable[[Call[Any, Any]], Awaitable[Results | Picture | Stream]]
    options: type[Options]
    reads: Images | Documents
    answer: type[BaseModel]
    media_types: tuple[str, ...] = ()
    facts: Mapping[str, str] | None = None
    items: Callable[[Sequence[Any], Any], int] = lambda inputs, _options: len(inputs)
    bounds: Callable[[Any, int], Mapping[str, Any]] | None = None

    @property
    def default_model(self) -> str:
        """The model that answers unless the client names another."""
        default: str = self.options.model_fields["model"].default
        return default


@dataclass(frozen=True, slots=True)
class Sample:
    """A request body to try a model with; `row` is the index of the input that it was made of."""

    media_type: str
    data: bytes
    row: int = 0


# What `CallScope.infer` returns for an item: its row of every output of the graph.
Row = tuple[Any, ...]


class Comparison(NamedTuple):
    """The answers of two versions to one input, compared.

    Attributes:
        agrees: whether they agree, by the task's own measure.
        difference: how far they are apart, 0 if they are the same; its unit is the task's own.
        label: the class of the input according to the default version; None without one.
    """

    agrees: bool
    difference: float
    label: str | None = None


class Measure(NamedTuple):
    """How the answers of two particular versions are compared.

    Attributes:
        words: when answers agree, and what their difference is.
        compare: the row of the default version with that of the candidate.
    """

    words: str
    compare: Callable[[Row, Row], Comparison]


class Outcome(NamedTuple):
    """What statistics of answers count: the most likely label, and the p-value of typicality; None without one."""

    label: str | None = None
    p_value: float | None = None


@dataclass(frozen=True, slots=True)
class Agreement:
    """What a task knows of its answers, for those who try a new version beside the current one.

    Attributes:
        between: how answers of two versions are compared, given the manifests of the default version and of the
            candidate, whose inputs have the same types and shapes. Raises `Incomparable`.
        outcome: of a row, given the manifest of the version that gave it.
        result: a row as the operation's answer has it with default options, given the manifest and the item.
    """

    between: Callable[[Any, Any], Measure]
    outcome: Callable[[Any, Row], Outcome]
    result: Callable[[Any, Any, Row], dict[str, Any]]


class Score(NamedTuple):
    """How well an answer fits the truth; the figure of many answers is the sum of `points` over that of `weight`."""

    points: float
    weight: float


@dataclass(frozen=True, slots=True)
class Truth:
    """How a task reads and scores feedback.

    Attributes:
        figure: what the scores amount to.
        read: the truth as it is stored, from JSON; raises ValueError with what it has to be.
        gist: of a result of the task's operation, what `score` needs, as JSON types; None if the result is empty.
        score: of a gist and a truth that `read` has returned.
        confirmed: the truth that makes a gist right; None if an answer can be right without being exact.
        rated: whether right and wrong, said of an answer, count for the figure too.
    """

    figure: str
    read: Callable[[Any], Any]
    gist: Callable[[dict[str, Any]], Any]
    score: Callable[[Any, Any], Score]
    confirmed: Callable[[Any], Any] = lambda _: None
    rated: bool = False


class Statistic(NamedTuple):
    """A statistic of a model's inputs or answers.

    Attributes:
        part: what it is of.
        name: of at most a few words.
        categories: their names; empty for numbers.
    """

    part: Part
    name: str
    categories: tuple[str, ...] = ()


class Values(NamedTuple):
    """The values of a statistic.

    Attributes:
        values: numbers (NaN if there is none), or indices of categories; in general one for each item.
        weights: the share of its item that each value has, if an item may have several; None for one each.
    """

    values: npt.NDArray[Any]
    weights: npt.NDArray[np.float64] | None = None


@dataclass(frozen=True, slots=True)
class Statistics:
    """What is counted of a model's inputs and answers.

    Attributes:
        of: the statistics, given the manifest.
        measure: the values of each statistic, in that order, given the manifest, the items as the graph takes them, and
            its row of outputs for each. There is at least one item.
    """

    of: Callable[[Any], tuple[Statistic, ...]]
    measure: Callable[[Any, Sequence[Any], Sequence[Any]], list[Values]]


@dataclass(frozen=True, slots=True)
class Task:
    """A kind of model.

    Attributes:
        name: the value of the manifest's field `task`.
        manifest: the class of the manifest.
        operations: below /v1; the Open Inference Protocol serves all tasks.
        read_companion: reads what the operations need beside the graph, from a version's folder; if it raises, the
            version is refused.
        samples: makes samples from the inputs of a golden file (arrays by name, one row per sample), the manifest and
            the companion; None if there are none.
        details: describes what a version's manifest does not, given its companion.
        agreement: compares the answers of versions; None if they cannot be compared.
        truth: how feedback on answers of a model is scored, given its manifest; None if only right and wrong count.
        statistics: what is counted of inputs and answers, to notice drift; None if nothing is.
    """

    name: str
    manifest: type[ManifestBase]
    operations: tuple[Operation, ...]
    read_companion: Callable[[Path], Any] | None = None
    samples: Callable[[Mapping[str, Any], Any, Any], list[Sample]] | None = None
    details: Callable[[Any], BaseModel] | None = None
    agreement: Agreement | None = None
    truth: Callable[[Any], Truth] | None = None
    statistics: Statistics | None = None
