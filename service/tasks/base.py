"""What a task is: one entry, from which loading, routes and documentation follow.

An entry says how a task's models are described (the manifest), what lies beside their graphs (the companion), and what
clients may ask of them (the operations). To add a task, write its entry and register it (`service.tasks.registry`).
"""

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from pydantic import BaseModel, ConfigDict, Field

from service.inference.cards import ManifestBase
from service.tasks.call import Call


class Options(BaseModel):
    """The options of an operation; each has a default, and the model's is the one that answers unless told otherwise.

    A misspelt option is an error.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str


def model_option(default: str) -> Any:
    """The field of the model that answers."""
    return Field(default, description="which model answers, `NAME` or `NAME/VERSION`; `GET /v1/models` lists them")


class AnswerBase(BaseModel):
    """What the answers of all operations say."""

    model: str = Field(examples=["classifier"])
    version: str = Field(examples=["1"])
    device: str = Field(examples=["cpu"], description="where it ran: cpu, cuda or cuda:N")
    variant: str = Field(examples=["reference"], description="which graph of the version ran: `reference`, int8, …")


@dataclass(frozen=True, slots=True)
class Images:
    """The input is one or many images, as encoded files: the call's inputs are `Upload`s.

    Attributes:
        example: a small image in base64, with which the documentation can be tried out.
    """

    example: str


class Parse(Protocol):
    """Reads a document."""

    def __call__(self, body: bytes, manifest: Any, limit: int) -> Sequence[Any]:
        """The inputs that a document holds, at least one.

        Args:
            body: of the request.
            manifest: of the model that is asked.
            limit: how many inputs are accepted.

        Raises:
            InvalidRequest: it is malformed; says where.
            BodyTooLarge: it holds more inputs.
        """


@dataclass(frozen=True, slots=True)
class Format:
    """A format of the document that an operation reads.

    Attributes:
        schema: what it accepts, in JSON Schema, given the manifest of a model that is served (None where there is
            none) and how many inputs are accepted.
        parse: reads it.
        example: a document that works, given the manifest of the model that answers by default (None where no such
            model is served).
    """

    schema: Callable[[Any, int], Mapping[str, Any]]
    parse: Parse
    example: Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class Records:
    """How inputs are found in the rows of a table, where there is no document around them.

    Attributes:
        columns: those that an input is made from, given the manifest.
        read: the inputs of some records, mappings by column, given the manifest; raises `InvalidRequest` where one is
            at fault.
        cell: what a cell of a CSV file stands for.
    """

    columns: Callable[[Any], tuple[str, ...]]
    read: Callable[[list[Any], Any], Sequence[Any]]
    cell: Callable[[str], Any] = str


@dataclass(frozen=True, slots=True)
class Documents:
    """The input is a document; the first of the formats is taken where a client states none.

    Attributes:
        formats: by media type.
        required: whether an empty body is an error.
        records: how inputs are found in the rows of a table; None where they are not.
    """

    formats: Mapping[str, Format]
    required: bool = True
    records: Records | None = None


@dataclass(slots=True)
class Results:
    """One result for each input, in order.

    Attributes:
        items: each as the operation's `result` model describes it, in plain JSON types.
        common: what holds for all of them.
    """

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
        chunks: its parts; what it raises before the first is an error like any other, what it raises later ends the
            answer abruptly, so that nobody takes a part for the whole.
        media_type: of the whole.
        filename: a name to save it under, where a program would not show it.
        facts: what was decided on the way, by name.
    """

    chunks: AsyncGenerator[bytes, None]
    media_type: str
    filename: str | None = None
    facts: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Operation:
    """Something that clients may ask of a model: served as POST /v1/<name>.

    Attributes:
        name: what it is called by.
        summary: a title of a few words.
        run: does it; its docstring describes it to clients.
        options: what may be chosen; each with a description.
        reads: the kind of input.
        answer: describes the document that is answered.
        media_types: what may be answered instead of that document.
        facts: names and descriptions of the facts that a stream states; None where the answer is no stream.
        bounds: by the name of an option what a model accepts for it, in JSON Schema, given its manifest; a list is
            written with commas.
    """

    name: str
    summary: str
    run: Callable[["Call[Any, Any]"], Awaitable[Results | Picture | Stream]]
    options: type[Options]
    reads: Images | Documents
    answer: type[BaseModel]
    media_types: tuple[str, ...] = ()
    facts: Mapping[str, str] | None = None
    bounds: Callable[[Any], Mapping[str, Any]] | None = None

    @property
    def default_model(self) -> str:
        """The model that answers unless the client names another."""
        default: str = self.options.model_fields["model"].default
        return default


@dataclass(frozen=True, slots=True)
class Sample:
    """An input to try a model with: a body that its operation reads.

    Attributes:
        media_type: of the body.
        data: the body.
    """

    media_type: str
    data: bytes


class Samples(Protocol):
    """Makes samples of the inputs in a version's golden file."""

    def __call__(self, inputs: Mapping[str, Any], manifest: Any, companion: Any) -> list[Sample]:
        """The samples, in the order of the golden file.

        Args:
            inputs: arrays by the name of the graph's input, one row for each sample.
            manifest: of the version.
            companion: what lies beside its graph.
        """


@dataclass(frozen=True, slots=True)
class Task:
    """What a kind of model is for.

    Attributes:
        name: as in the manifest, the recipe that trains it, and the tests.
        manifest: the class of the manifest; its `task` has the name for its only value.
        operations: what clients may ask; at least one.
        read_companion: reads what the operations need beside the graph, from a version's folder; whatever it raises
            refuses the version.
        samples: makes inputs to try a version with, of those in its golden file; None where that is not possible.
        details: describes what a version's manifest does not, given its companion.
    """

    name: str
    manifest: type[ManifestBase]
    operations: tuple[Operation, ...]
    read_companion: Callable[[Path], Any] | None = None
    samples: Samples | None = None
    details: Callable[[Any], BaseModel] | None = None
