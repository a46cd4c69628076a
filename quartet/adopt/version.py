"""From a proposal to a version that the service serves: golden answers, manifest, publication."""

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
from onnx import ModelProto

from quartet.adopt.asking import write_request
from quartet.adopt.base import Proposal
from quartet.adopt.batching import BATCH, Batching, decide
from quartet.adopt.card import CARD, render
from quartet.adopt.golden import make_golden
from quartet.adopt.graph import Array, CannotAdopt, RunFailed, Value, declare, nodes, open_session
from quartet.adopt.hazards import guard_divisions
from quartet.adopt.samples import Samples
from service.inference.cards import AdoptionCard, ManifestBase, TensorSpec
from service.inference.drafts import new_draft, take_number
from service.inference.loading import Loader
from service.inference.manifest import GOLDEN, MANIFEST, MODEL, InvalidModel, sha256
from service.inference.runtime import Tensor
from service.inference.versions import versions_in
from service.tasks.registry import BUILT_IN

# Entries of the file's metadata, and the most characters of one.
_MOST_ENTRIES, _MOST_METADATA = 64, 2**16


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


def publish(proposal: Proposal, models: Path, name: str, *, most: int, command: str) -> Published:
    """Publishes the next version of a model; nothing remains of one that fails.

    Args:
        proposal: what is served.
        models: the folder of all models.
        name: of the model.
        most: the largest batch to check.
        command: that asked for it; the manifest states it.

    Raises:
        CannotAdopt: the graph fails, gives other answers to the same inputs, or cannot be loaded by the service.
    """
    model = ModelProto()
    model.CopyFrom(proposal.loaded.model)
    loaded = proposal.loaded.changed(model, *guard_divisions(model))
    check_deterministic(loaded.model, proposal.samples)
    trials = proposal.trials or proposal.samples
    batching = decide(loaded.model, trials, most, rows=proposal.rows, lists=proposal.lists)
    if proposal.alone is not None:
        batching = replace(batching, most=1, why=f"no: {proposal.alone}; it runs one item at a time")
    settled, changes = settle_outputs(batching, proposal.samples)
    golden, golden_card = make_golden(settled, proposal.samples, batching, proposal.lists)
    source = loaded.source
    card = AdoptionCard(
        source=source.file,
        sha256=source.sha256,
        size=source.size,
        producer=source.producer,
        opsets=dict(source.opsets),
        metadata=_bounded(source.metadata),
        command=command,
        changes=(*loaded.changes, *changes),
        samples=proposal.samples.kind,
        batching=batching.why,
    )
    with contextlib.ExitStack() as undo:
        draft = new_draft(models / name, undo)
        onnx.save(settled, draft / MODEL)
        np.savez_compressed(draft / GOLDEN, allow_pickle=False, **golden.inputs, **golden.answers)
        session = open_session(settled, MODEL)
        manifest = proposal.make_manifest(
            {
                "name": name,
                "description": f"{source.file}, trained elsewhere",
                "inputs": _specs(session.inputs),
                "outputs": _specs(session.outputs),
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
        if not (draft / CARD).exists():
            (draft / CARD).parent.mkdir(exist_ok=True)
            (draft / CARD).write_text(render(manifest, proposal.sections))
        served = (path for path in sorted(draft.iterdir()) if path.is_file())
        manifest = manifest.model_copy(update={"files": {path.name: sha256(path) for path in served}})
        (draft / MANIFEST).write_text(manifest.model_dump_json(indent=1) + "\n")
        try:
            Loader(BUILT_IN.kinds, "cpu", 1, most).open(draft, "reference")
        except InvalidModel as error:
            raise CannotAdopt("not served", f"The service cannot load the version: {error}") from None
        folder = take_number(draft, undo)
        undo.pop_all()
    return Published(folder, manifest, batching)


def _bounded(metadata: Mapping[str, str]) -> dict[str, str]:
    """The entries that are small enough for a manifest."""
    small = {name: text for name, text in metadata.items() if len(name) + len(text) <= _MOST_METADATA}
    return dict(list(small.items())[:_MOST_ENTRIES])


def check_name(models: Path, name: str, task: str) -> None:
    """Raises CannotAdopt if the model of that name has another task, whose clients would lose their answers."""
    with contextlib.suppress(OSError):
        for version in versions_in(models / name)[:1]:
            with contextlib.suppress(InvalidModel):
                found = BUILT_IN.read_manifest(models / name / version).task
                if found != task:
                    raise CannotAdopt(
                        "name", f"{models / name} holds a model of the task {found}, not {task}: give another --name."
                    )


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
    """The graph with outputs declared as its answers are, and a line for each that was declared with another rank.

    An axis whose size the session does not know, or knows otherwise than the answers, is open.
    """
    model = ModelProto()
    model.CopyFrom(batching.model)
    session = open_session(model, MODEL)
    answers = [session.run(call) for call in samples.calls[:2]]
    changes = []
    for declared, (name, _, stated), arrays in zip(
        model.graph.output, session.outputs, zip(*answers, strict=True), strict=True
    ):
        (rank, *others) = {array.ndim for array in arrays}
        if others:
            raise CannotAdopt("unknown rank", f"The number of axes of the output {name!r} depends on the inputs.")
        if rank != len(stated):
            changes.append(f"output {name}: has {rank} axes, as its answers show")
            stated = (None,) * rank
        shape = [
            size if isinstance(size, int) and all(array.shape[axis] == size for array in arrays) else f"{name}_{axis}"
            for axis, size in enumerate(stated)
        ]
        if batching.batched:
            shape[0] = BATCH
        value = declare(name, Value.of(declared).dtype, shape)
        declared.CopyFrom(value)
    return model, changes


def _same(one: Array, two: Array) -> bool:
    return one.shape == two.shape and np.array_equal(one, two, equal_nan=one.dtype.kind == "f")


def _random_operators(model: ModelProto) -> str:
    known = ("Random", "Multinomial", "Bernoulli", "Dropout")
    found = sorted({node.op_type for node in nodes(model.graph) if node.op_type.startswith(known)})
    return f" ({', '.join(found)})" if found else ""


def _specs(tensors: Sequence[Tensor]) -> tuple[TensorSpec, ...]:
    """The tensors as a session of the service sees them."""
    return tuple(
        TensorSpec(name=name, dtype=dtype, shape=tuple(size if isinstance(size, int) else -1 for size in shape))
        for name, dtype, shape in tensors
    )
