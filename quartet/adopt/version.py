"""From a proposal to a version that the service serves: golden answers, manifest, publication."""

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import onnxruntime as ort
from onnx import ModelProto

from quartet.adopt.asking import write_request
from quartet.adopt.base import Proposal
from quartet.adopt.batching import SHARES, Batching, decide, differ_by
from quartet.adopt.graph import Array, CannotAdopt, RunFailed, declare, nodes, open_session, outputs_of
from quartet.adopt.hazards import guard_divisions
from quartet.adopt.samples import Call, Samples
from service.inference.cards import AdoptionCard, GoldenCard, ListCard, ManifestBase, TensorSpec
from service.inference.device import available_cpus
from service.inference.drafts import new_draft, take_number
from service.inference.golden import Golden
from service.inference.loading import Kind, Loader
from service.inference.manifest import GOLDEN, MANIFEST, MODEL, InvalidModel, sha256
from service.inference.session import Session

# Golden items, and the most bytes that their inputs and outputs may have.
_ROWS, _MOST_BYTES = 16, 2**25
# A tolerance is four times the largest deviation that was seen here, since another machine's kernels may deviate more,
# and at least `SHARES` of the output's largest value.
_MARGIN = 4
# Integers, booleans and strings are exact.
_EXACT = 0.5


class Published(NamedTuple):
    """A version that was adopted.

    Attributes:
        folder: of the version.
        manifest: of the version.
        batching: how it is run.
    """

    folder: Path
    manifest: ManifestBase
    batching: Batching


def publish(
    proposal: Proposal, models: Path, name: str, *, most: int, command: str, kinds: Mapping[str, Kind]
) -> Published:
    """Publishes the next version of a model; nothing remains of one that fails.

    Args:
        proposal: what is served.
        models: the folder of all models.
        name: of the model.
        most: the largest batch to check.
        command: that asked for it; the manifest states it.
        kinds: the tasks of the service.

    Raises:
        CannotAdopt: the graph fails, gives other answers to the same inputs, or cannot be loaded by the service.
    """
    model = ModelProto()
    model.CopyFrom(proposal.loaded.model)
    loaded = proposal.loaded.changed(model, *guard_divisions(model))
    check_deterministic(loaded.model, proposal.samples)
    batching = decide(loaded.model, proposal.samples, most, rows=proposal.rows, lists=proposal.lists)
    settled, changes = settle_outputs(batching, proposal.samples)
    golden, golden_card = make_golden(settled, proposal.samples, batched=batching.batched, lists=proposal.lists)
    source = loaded.source
    card = AdoptionCard(
        source=source.file,
        sha256=source.sha256,
        size=source.size,
        producer=source.producer,
        opsets=dict(source.opsets),
        command=command,
        changes=(*loaded.changes, *changes),
        samples=proposal.samples.kind,
        batching=batching.why,
    )
    with contextlib.ExitStack() as undo:
        draft = new_draft(models / name, undo)
        onnx.save(settled, draft / MODEL)
        np.savez_compressed(draft / GOLDEN, allow_pickle=False, **golden.inputs, **golden.answers)
        inputs, outputs = _specs(draft / MODEL)
        manifest = proposal.make_manifest(
            {
                "name": name,
                "description": f"{source.file}, trained elsewhere",
                "inputs": inputs,
                "outputs": outputs,
                "max_batch": batching.most,
                "batched": batching.batched,
                "golden": golden_card,
                "adopted": card,
                "files": {},
            }
        )
        proposal.write(draft, manifest)
        if proposal.call is None:
            write_request(draft, manifest, golden)
        served = (path for path in sorted(draft.iterdir()) if path.is_file())
        manifest = manifest.model_copy(update={"files": {path.name: sha256(path) for path in served}})
        (draft / MANIFEST).write_text(manifest.model_dump_json(indent=1) + "\n")
        try:
            Loader(kinds, "cpu", 1, most).open(draft, "reference")
        except InvalidModel as error:
            raise CannotAdopt("not served", f"The service cannot load the version: {error}") from None
        folder = take_number(draft, undo)
        undo.pop_all()
    return Published(folder, manifest, batching)


def check_deterministic(model: ModelProto, samples: Samples) -> None:
    """Raises CannotAdopt if the graph gives two answers to the same inputs, in one session or in two."""
    call = samples.calls[0]
    first, second = (open_session(model, MODEL) for _ in range(2))
    try:
        # Some generators repeat themselves once.
        answers = [session.run(call) for session in (first, first, first, first, second)]
    except RunFailed as error:
        raise CannotAdopt("samples", f"The graph fails with the samples. ONNX Runtime says: {error}") from None
    for other in answers[1:]:
        if not all(_same(one, two) for one, two in zip(answers[0], other, strict=True)):
            raise CannotAdopt(
                "random answers",
                "The graph gives different answers to the same inputs"
                f"{_random_operators(model)}: export it for inference, with a seed or the noise as an input.",
            )


def settle_outputs(batching: Batching, samples: Samples) -> tuple[ModelProto, list[str]]:
    """The graph with declared outputs that its answers have, and a line for each that was declared otherwise."""
    model = ModelProto()
    model.CopyFrom(batching.model)
    session = open_session(model, MODEL)
    answers = [session.run(call) for call in samples.calls[:2]]
    stated = {name: shape for name, _, shape in session.outputs}
    changes = []
    for value, *arrays in zip(outputs_of(model), *answers, strict=True):
        ranks = {array.ndim for array in arrays}
        if len(ranks) > 1:
            raise CannotAdopt("unknown rank", f"The number of axes of the output {value.name!r} depends on the inputs.")
        found = stated[value.name] if value.shape is not None or stated[value.name] else (None,) * arrays[0].ndim
        shape = (
            [
                size
                if isinstance(size, int) and all(array.shape[axis] == size for array in arrays)
                else f"{value.name}_{axis}"
                for axis, size in enumerate(found)
            ]
            if len(found) == arrays[0].ndim
            else [f"{value.name}_{axis}" for axis in range(arrays[0].ndim)]
        )
        if batching.batched:
            shape[0] = "batch"
        declared = next(each for each in model.graph.output if each.name == value.name)
        declared.CopyFrom(declare(value.name, value.dtype, shape))
        if value.shape is None or len(value.shape) != len(shape):
            changes.append(f"output {value.name}: has {len(shape)} axes, as its answers show")
    return model, changes


def make_golden(
    model: ModelProto, samples: Samples, *, batched: bool, lists: ListCard | None = None
) -> tuple[Golden, GoldenCard]:
    """Golden items, the graph's answers to each alone, and how far other batches and threads may deviate.

    The answers are those of the graph as ONNX defines it, node by node without the runtime's fusions.

    Raises:
        CannotAdopt: integers, strings or sizes of the answers depend on how the graph is run, or lists by more than
            their tolerances.
    """
    session = open_session(model, MODEL)
    unfused = _open_unfused(model)
    items = _items(samples, batched=batched, run=session.run)
    answers = [unfused(item) for item in items]
    if any(len({array.shape for array in arrays}) > 1 for arrays in zip(*answers, strict=True)):
        # A file holds items of one shape.
        items, answers = items[:1], answers[:1]
    runs = list(_runs(model, items, answers, batched=batched))
    names = [value.name for value in outputs_of(model)]
    stack = np.concatenate if batched else np.stack
    inputs = {name: stack([item[name] for item in items]) for name in items[0]}
    outputs = {name: stack([answer[index] for answer in answers]) for index, name in enumerate(names)}
    if lists is not None:
        differ = differ_by(model, lists)
        if problem := next(filter(None, (differ(want, got) for want, got in runs)), None):
            raise _unstable(problem)
        card = GoldenCard(rows=len(items), atol=max(lists.tolerances.values()), lists=lists)
    else:
        tolerances = {
            name: _tolerance(outputs[name], max(_deviation(name, want[index], got[index]) for want, got in runs))
            for index, name in enumerate(names)
        }
        card = GoldenCard(rows=len(items), atol=max(tolerances.values()), tolerances=tolerances)
    stored = {name: array.astype(np.str_) if array.dtype.kind == "O" else array for name, array in outputs.items()}
    return Golden(inputs, stored), card


def _runs(
    model: ModelProto, items: Sequence[Call], answers: Sequence[Sequence[Array]], *, batched: bool
) -> Iterator[tuple[Sequence[Array], Sequence[Array]]]:
    """Wanted and found answers, in one thread and in several, for each item alone and for all in a batch."""
    for threads in {1, available_cpus()}:
        session = open_session(model, MODEL, threads)
        for item, want in zip(items, answers, strict=True):
            yield want, session.run(item)
        if batched:
            whole = {name: np.concatenate([item[name] for item in items]) for name in items[0]}
            yield [np.concatenate(arrays) for arrays in zip(*answers, strict=True)], session.run(whole)


def _items(samples: Samples, *, batched: bool, run: Callable[[Call], Sequence[Array]]) -> list[Call]:
    """As many golden items as are small enough."""
    if batched:
        rows = samples.rows(2, _ROWS)
        count = len(next(iter(rows.values())))
        items = [{name: array[row : row + 1] for name, array in rows.items()} for row in range(count)]
    else:
        first = samples.calls[0]
        alike = [call for call in samples.calls if all(call[name].shape == first[name].shape for name in first)]
        items = alike[:_ROWS]
    size = sum(array.nbytes for array in (*items[0].values(), *run(items[0])))
    return items[: max(1, _MOST_BYTES // max(1, size))]


def _open_unfused(model: ModelProto) -> Callable[[Call], list[Array]]:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    try:
        session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception:  # some operators only have kernels in a fusion
        return open_session(model, MODEL).run
    return lambda inputs: session.run(None, inputs)


def _deviation(name: str, want: Array, got: Array) -> float:
    """The largest absolute difference of finite values; all others have to be the same."""
    if want.dtype.kind != "f":
        if want.shape != got.shape or not np.array_equal(want, got):
            raise _unstable(f"output {name} has other values")
        return 0.0
    wide, other = want.astype(np.float64), got.astype(np.float64)
    finite = np.isfinite(wide)
    if want.shape != got.shape or not np.array_equal(wide[~finite], other[~finite], equal_nan=True):
        raise _unstable(f"output {name} has another shape, or is NaN or infinite elsewhere")
    return float(np.abs(wide[finite] - other[finite]).max(initial=0.0))


def _unstable(how: str) -> CannotAdopt:
    return CannotAdopt(
        "unstable answers",
        f"The answers depend on how the graph is run ({how} with other threads, in a batch, or without fusions): give "
        "samples whose answers are clear with --samples.",
    )


def _tolerance(answers: Array, deviation: float) -> float:
    if answers.dtype.kind != "f":
        return _EXACT
    wide = answers.astype(np.float64)
    scale = np.abs(wide[np.isfinite(wide)]).max(initial=0.0) or 1.0
    tolerance = max(_MARGIN * deviation, SHARES[answers.dtype.name] * scale)
    digit = 10.0 ** math.floor(math.log10(tolerance))
    return float(f"{math.ceil(tolerance / digit) * digit:.1g}")


def _same(one: Array, two: Array) -> bool:
    return one.shape == two.shape and np.array_equal(one, two, equal_nan=one.dtype.kind == "f")


def _random_operators(model: ModelProto) -> str:
    known = ("Random", "Multinomial", "Bernoulli", "Dropout")
    found = sorted({node.op_type for node in nodes(model.graph) if node.op_type.startswith(known)})
    return f" ({', '.join(found)})" if found else ""


def _specs(path: Path) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """The tensors as a session of the service sees them."""
    graph = Session(path, "cpu", 1)._graph

    def specs(tensors: Sequence[Any]) -> tuple[TensorSpec, ...]:
        return tuple(
            TensorSpec(name=name, dtype=dtype, shape=tuple(size if isinstance(size, int) else -1 for size in shape))
            for name, dtype, shape in tensors
        )

    return specs(graph.inputs), specs(graph.outputs)
