"""A model that scores items as the service does: the same operation, pipeline and sessions, without HTTP."""

import asyncio
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from pydantic import ValidationError

from quartet.console import did_you_mean
from quartet.offline.scoring.columns import choose_columns
from quartet.offline.scoring.sources import NOTHING, BadItem, Item, UnusableJob, printable
from service.errors import InferenceFailed, InvalidRequest, QuartetError
from service.inference.device import available_cpus
from service.inference.leases import Lease, Version
from service.inference.pipeline import Make
from service.inference.repository import Repository
from service.inference.scope import CallScope
from service.inference.versions import versions_in
from service.models import policies_of, repository_of
from service.policy.file import FixedPolicy, InvalidPolicy
from service.policy.policy import Policy
from service.settings import Settings
from service.tasks.base import Images, Operation, Options, Picture, Records, Results, Row
from service.tasks.call import Call, Upload
from service.tasks.registry import Registry
from service.tasks.threads import Threads

# Items per call. Images may be large and are held as files until they are decoded.
_IMAGES, _RECORDS = 16, 512


@dataclass(frozen=True, slots=True)
class Job:
    """What to do with each item.

    Attributes:
        model: `NAME` or `NAME/VERSION`.
        operation: its name; None for the task's first operation that answers items with results.
        options: of the operation, as a query would have them.
        column: of the input, if it is a single one; None to find it.
        keep: columns of the input that are carried over into the output; None for all that are not read.
    """

    model: str
    operation: str | None = None
    options: tuple[tuple[str, str], ...] = ()
    column: str | None = None
    keep: tuple[str, ...] | None = None


class Engine:
    """A loaded model that scores items.

    Attributes:
        version: of the model, `NAME/VERSION`.
        operation: what it does with each item.
        chunk: items per call.
        in_flight: concurrent calls that keep the device busy.
    """

    def __init__(
        self, repository: Repository, lease: Lease, operation: Operation, job: Job, settings: Settings
    ) -> None:
        self._repository = repository
        self._lease = lease
        self._column = job.column
        self._names: Mapping[str, str] = {}  # the file's columns by what the operation calls them
        self._records = None if isinstance(operation.reads, Images) else operation.reads.records
        self._max_pixels, self._max_items = settings.max_pixels, settings.max_items
        self.operation = operation
        version = lease.version
        self.version = version.label
        self.signature = version.signature()
        try:
            given = {name: value for name, value in job.options if name not in ("model", "version")}
            self._options: Options = operation.options.model_validate({**given, "model": version.label})
        except ValidationError as error:
            raise UnusableJob(_about_option(error, operation)) from None
        threads = settings.threads or available_cpus()
        self._threads = Threads(threads)
        self.chunk = _IMAGES if isinstance(operation.reads, Images) else _RECORDS
        # Twice what runs at once, so that batches form while others run.
        self.in_flight = max(3, math.ceil(2 * threads * version.max_batch / self.chunk) + 1)

    @classmethod
    async def open(cls, job: Job, settings: Settings, registry: Registry) -> Self:
        """Loads the model; takes seconds.

        Raises:
            NothingToServe: there is no such model that can answer.
            UnknownModel: there is none of that version.
            DeviceUnavailable: the device that was asked for cannot be used.
            UnusableJob: it cannot do what it is asked to.
        """
        name, _, wanted = job.model.partition("/")
        policy = FixedPolicy(_one_version(settings, name, wanted))
        repository = repository_of(settings, registry, only=(name,), policies=policy, unbounded=True)
        try:
            await repository.load_all()
            lease = repository.lease(name)
            operations = registry.tasks[lease.version.manifest.task].operations
            able = {operation.name: operation for operation in operations if _reads_items(operation)}
            chosen = able.get(job.operation) if job.operation else next(iter(able.values()), None)
            if not operations:
                raise UnusableJob(
                    f"{lease.version.label} is a graph of plain tensors: serve it, and send tensors to "
                    f"/v2/models/{name}/infer."
                )
            if chosen is None:
                what = f"cannot {job.operation}" if job.operation else "answers no items"
                raise UnusableJob(f"{lease.version.label} {what}; it can {', '.join(able) or 'generate only'}.")
            return cls(repository, lease, chosen, job, settings)
        except BaseException:
            await repository.close(1)
            raise

    @property
    def manifest(self) -> Any:
        """The manifest of the version."""
        return self._lease.version.manifest

    @property
    def takes(self) -> tuple[str, ...] | None:
        """The columns of an input; None if the operation reads images."""
        return None if self._records is None else self._records.columns(self._lease.version.manifest)

    @property
    def cell(self) -> Callable[[str], Any]:
        """Parses a cell of a CSV file."""
        return self._records.cell if self._records else str

    def choose_columns(
        self, found: Sequence[str] | None, sample: Callable[[], Sequence[Mapping[str, Any]]] = tuple
    ) -> tuple[str, ...]:
        """Chooses the columns that items are read from.

        Args:
            found: the columns of the input; None if they are unknown.
            sample: gives the first rows of the input, to find the column of images or texts in.

        Raises:
            UnusableJob: a required column is missing.
        """
        remembered = getattr(self._lease.version.manifest, "text_column", None)
        usual = (remembered,) if self.takes == ("text",) and remembered else ()
        wanted = choose_columns(self.takes, self._column, usual, found, sample, self.operation.name)
        self._names = dict(zip(self.takes or ("image",), wanted, strict=True))
        return wanted

    @property
    def labels(self) -> int:
        """How many labels the answers choose from; 0 if they hold none."""
        return len(self._lease.version.manifest.labels)

    async def score(self, items: Sequence[Item], base: Path) -> list[dict[str, Any]]:
        """A row for each item, in order: its index, what is carried over, and the answer or the error.

        Args:
            items: at most `chunk`.
            base: the folder that image paths are relative to.

        Raises:
            QuartetError: a failure that is no item's fault, so no other item could be scored either.
        """
        outcomes: list[Any] = await self._threads.run(self._read, items, base)
        names = [self._name_of(item) for item in items]
        good = [index for index, outcome in enumerate(outcomes) if not isinstance(outcome, QuartetError)]
        if good:
            for index, result in zip(good, await self._answer([outcomes[index] for index in good]), strict=True):
                outcomes[index] = result
        return [
            _row(item.row, outcome, {**item.carried, **name})
            for item, outcome, name in zip(items, outcomes, names, strict=True)
        ]

    def _name_of(self, item: Item) -> dict[str, str | None]:
        """The file of an image, as the field of its result; empty for other items."""
        if self._records is not None or isinstance(item.record, BadItem):
            return {}
        (column,) = self._names.values()
        return {"name": _path_of(item.record[column])}

    async def answer(self, document: bytes, media_type: str) -> list[dict[str, Any]]:
        """A row for each input of a request body, as `score` returns them.

        Args:
            document: the body of a request.
            media_type: one of the formats that the operation reads.

        Raises:
            QuartetError: the document is malformed; says where.
        """
        if isinstance(self.operation.reads, Images):
            raise UnusableJob(f"{self.operation.name} reads images, not documents.")
        parse = self.operation.reads.formats[media_type].parse
        inputs = await self._threads.run(parse, document, self._lease.version.manifest, self._max_items)
        return [_row(row, outcome) for row, outcome in enumerate(await self._answer(inputs))]

    async def draw(self, item: Item, base: Path) -> bytes:
        """Draws the answer for an item as a PNG file.

        Args:
            item: to draw.
            base: the folder that image paths are relative to.

        Raises:
            QuartetError: the item cannot be answered.
        """
        (value,) = await self._threads.run(self._read, [item], base)
        if isinstance(value, QuartetError):
            raise value
        answer = await self._run([value], prefers_picture=True)
        if not isinstance(answer, Picture):
            raise UnusableJob(f"{self.operation.name} does not answer pictures.")
        return answer.data

    async def answer_with(
        self, item: Item, base: Path, infer: Callable[[Sequence[Any]], Awaitable[list[Row]]]
    ) -> dict[str, Any]:
        """The answer for an item, by rows that another place gives: the model of this one does not run.

        Args:
            item: to answer.
            base: the folder that image paths are relative to.
            infer: gives the rows of items; see `CallScope.infer`.

        Raises:
            QuartetError: the item cannot be answered.
        """
        (value,) = await self._threads.run(self._read, [item], base)
        if isinstance(value, QuartetError):
            raise value
        answer = await self._run([value], _Elsewhere(self._repository, infer))
        result: dict[str, Any] = answer.items[0]
        return result

    async def close(self) -> None:
        """Closes the model and its threads."""
        self._lease.release()
        await self._repository.close(1)
        self._threads.close()

    async def _answer(self, inputs: Sequence[Any]) -> Sequence[Any]:
        """One result per input; for a bad input, its error."""
        try:
            return await self._call(inputs)
        except QuartetError as error:
            if error.index is None:
                raise
            if trouble := self._lease.version.batcher.trouble(math.inf):
                raise InferenceFailed(f"The model is not responding: {trouble}.") from error
            if len(inputs) == 1:
                return [error]
        # Retry the inputs one by one to isolate the bad one; the batcher batches them again.
        parts = await asyncio.gather(*(self._answer([each]) for each in inputs))
        return [result for part in parts for result in part]

    async def _call(self, inputs: Sequence[Any]) -> Sequence[Any]:
        answer = await self._run(inputs)
        if not isinstance(answer, Results):
            raise UnusableJob("A picture is no result for a table: leave the option out.")
        return answer.items

    async def _run(
        self, inputs: Sequence[Any], scope: CallScope | None = None, *, prefers_picture: bool = False
    ) -> Any:
        async with scope or CallScope(self._repository) as running:
            call: Call[Any, Any] = Call(
                running.lease(self.version), self._options, inputs, running, self._threads, self._max_pixels,
                prefers_picture=prefers_picture,
            )  # fmt: skip
            return await self.operation.run(call)

    def _read(self, items: Sequence[Item], base: Path) -> list[Any]:
        """One input per item; for an unreadable item, its error."""
        outcomes: list[Any] = [
            InvalidRequest(item.record.detail) if isinstance(item.record, BadItem) else item.record for item in items
        ]
        good = [index for index, record in enumerate(outcomes) if not isinstance(record, QuartetError)]
        if self._records is None:
            (column,) = self._names.values()
            read = [_read_image(outcomes[index][column], base) for index in good]
        else:
            records = [{name: outcomes[index][column] for name, column in self._names.items()} for index in good]
            read = _read_records(self._records, records, self._lease.version.manifest)
        for index, value in zip(good, read, strict=True):
            outcomes[index] = value
        return outcomes


class _Elsewhere(CallScope):
    """A call whose items run in another place; see `Engine.answer_with`."""

    __slots__ = ("_infer",)

    def __init__(self, repository: Repository, infer: Callable[[Sequence[Any]], Awaitable[list[Row]]]) -> None:
        super().__init__(repository)
        self._infer = infer

    async def infer_made(self, version: Version, count: int, make: Make) -> list[Row]:  # noqa: ARG002
        return await self._infer(await make(0, count))


def _about_option(error: ValidationError, operation: Operation) -> str:
    """What is wrong with the first wrong option."""
    first = error.errors()[0]
    name = ".".join(map(str, first["loc"]))
    known = [each for each in operation.options.model_fields if each not in ("model", "version")]
    if first["type"] == "extra_forbidden":
        return f"There is no option {name}{did_you_mean(name, known, 'the options are')}"
    reason = first["msg"].removeprefix("Value error, ")
    return f"-o {name}={first['input']}: {reason}." if name else f"{reason}."


def _one_version(settings: Settings, name: str, wanted: str) -> Policy:
    """The policy that loads only the version that answers: a number, an alias, or the default if `wanted` is empty.

    Raises:
        UnusableJob: there is no such model or version.
    """
    models = settings.models
    if not models.is_dir():
        return Policy()  # the repository reports it
    if not name or not (models / name).is_dir():
        there = ", ".join(sorted(path.name for path in models.iterdir() if path.is_dir()))
        raise UnusableJob(f"There is no model {name!r} in {models}: there are {there or 'none'}.")
    found = versions_in(models / name)
    try:
        policy = policies_of(settings).read(name)
    except InvalidPolicy as error:
        raise UnusableJob(f"{name}: {error}.") from None
    version = policy.number(wanted or policy.default)
    if wanted and version not in found:
        there = ", ".join([*found, *policy.aliases])
        raise UnusableJob(f"There is no version {wanted!r} of {name}: there are {there}.")
    return Policy(load=(version,), default=version) if version else Policy()


def _reads_items(operation: Operation) -> bool:
    """Whether an operation returns a result for each item."""
    return isinstance(operation.reads, Images) or operation.reads.records is not None


def _read_records(records: Records, rows: list[Any], manifest: Any) -> list[Any]:
    """One input per row; for a bad row, its error."""
    try:
        return list(records.read(rows, manifest)) if rows else []
    except QuartetError as error:
        if len(rows) == 1:
            return [error]
    return [value for row in rows for value in _read_records(records, [row], manifest)]


def _read_image(value: Any, base: Path) -> Any:
    """Reads an image from bytes, a path, or a mapping with either, as data sets store it."""
    name = _path_of(value)
    if isinstance(value, dict):
        value = value.get("bytes") or value.get("path")
    if isinstance(value, bytes):
        return Upload(name, value)
    if not isinstance(value, str):
        return InvalidRequest("The row holds neither the bytes of an image nor the path of one.")
    try:
        return Upload(name, (base / value).read_bytes())
    except OSError as error:
        return InvalidRequest(f"{name}: cannot be read: {error.strerror}.")


def _path_of(value: Any) -> str | None:
    """The path of an image, to be shown; None if it has none."""
    path = value.get("path") if isinstance(value, dict) else value
    return printable(path) if isinstance(path, str) else None


def _row(row: int, outcome: Any, more: Mapping[str, Any] = NOTHING) -> dict[str, Any]:
    if isinstance(outcome, QuartetError):
        return {"row": row, **more, "error": f"{outcome.title()}: {outcome.detail}"}
    return {"row": row, **more, **outcome}
