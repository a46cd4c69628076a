"""Adds variants to a published model: graphs that are smaller or faster, and good enough to answer in its place.

Every variant is judged by its own exported graph: on validation, which decides whether it is kept, and then once on
test. The result is a new version with the same reference.
"""

import shutil
import tempfile
import time
from argparse import Namespace
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

import numpy as np
from rich.console import Console

from service.inference.cards import Kept, ManifestBase, Use, VariantCard
from service.inference.cuda import cuda_problem
from service.inference.manifest import MANIFEST, MODEL, InvalidModel
from service.inference.session import Session
from service.tasks.registry import read_manifest
from training.export import history
from training.export.evaluator import Evaluator
from training.export.familiarity import Parts, remove
from training.export.familiarize import add_familiarity
from training.export.gate import Gate
from training.export.half import write_float16, write_half_vectors
from training.export.int8 import PERCENTILE, Quantizer
from training.export.publish import publish
from training.export.published import evaluator_of, find_version, parts_of
from training.export.speed import compare_speed
from training.export.variants import Trial, write_golden, write_section
from training.published_options import METHODS

# Training inputs that tell the ranges of activations.
CALIBRATION = 1024
# Validation inputs that tell how far a graph is from its reference.
_COMPARED = 128
# No more layers than this share stay in float: what would be left to gain?
_SHARE_IN_FLOAT = 0.2
FASTER, SMALLER = 1.3, 0.5
# Of a probability or a score, by a golden file.
_MOST_TOLERATED = 0.1
ManifestT = TypeVar("ManifestT", bound=ManifestBase)


class NothingKept(Exception):
    """No variant is worth keeping."""


class Irreproducible(Exception):
    """Kernels that compute the same graph differ too much: a golden file would catch nothing."""


def run(arguments: Namespace, console: Console) -> None:
    """Tries variants, and publishes a version with those that are kept."""
    folder = find_version(arguments.models, arguments.model)
    manifest = read_manifest(folder)
    started = time.perf_counter()
    evaluator = evaluator_of(manifest, folder, arguments)
    step = history.begun("quantize", arguments.command_line, manifest.data.fingerprint)
    parts = parts_of(manifest, folder, arguments) if getattr(manifest, "familiarity", None) else None
    methods = METHODS if "all" in arguments.method else [name for name in METHODS if name in arguments.method]

    def write(target: Path) -> ManifestBase:
        shutil.copytree(folder, target, dirs_exist_ok=True, ignore=shutil.ignore_patterns(MANIFEST))
        varied = add_variants(target, history.with_step(manifest, step), evaluator, console, methods, parts)
        return history.with_end(varied, time.perf_counter() - started)

    gate = Gate.of(arguments)
    try:
        (version,) = publish(arguments.models, [(manifest.name, write)], gate)
    except NothingKept:
        console.print(f"no variant of {folder} is worth keeping: nothing is published")
    else:
        console.print(f"published {version}")
        gate.print(console)


def with_variants(
    folder: Path, manifest: ManifestT, evaluator: Evaluator, console: Console, parts: Parts | None = None
) -> ManifestT:
    """The manifest of a version that is being written, with the variants that were worth keeping, if any."""
    try:
        return add_variants(folder, manifest, evaluator, console, parts=parts)
    except NothingKept:
        console.print("no variant is worth keeping")
        return manifest


def add_variants(
    folder: Path,
    manifest: ManifestT,
    evaluator: Evaluator,
    console: Console,
    methods: Sequence[str] = METHODS,
    parts: Parts | None = None,
) -> ManifestT:
    """Tries variants of the version in `folder` and writes those that are kept into it.

    Args:
        folder: with the reference, its golden file and, perhaps, its report.
        manifest: of the version; its `files` are not looked at.
        evaluator: of its data.
        console: where progress goes.
        methods: which variants to try.
        parts: of its data, where it tells what is unfamiliar: each graph does so by its own features.

    Returns:
        The manifest with the variants that were kept.

    Raises:
        NothingKept: none was.
    """
    with tempfile.TemporaryDirectory() as scratch:
        reference = Path(scratch) / MODEL
        remove(folder / MODEL, reference)
        trials = _try(reference, evaluator, console, methods, Path(scratch), manifest.max_batch)
        cards = []
        for index, trial in enumerate(trials):
            if trial.kept:
                try:
                    cards.append(_keep(trial, folder, manifest, evaluator, parts))
                except Irreproducible as error:
                    trials[index] = trial.with_reason(str(error))
                    console.print(f"{trial.name}: {error}")
        if not cards:
            raise NothingKept
    names = {trial.name for trial in trials}
    variants = (*(card for card in manifest.variants if card.name not in names), *cards)
    complete = history.with_uses(
        manifest.model_copy(update={"variants": variants}),
        Use(split="train", purpose=history.RANGES, items=min(CALIBRATION, manifest.data.train)),
        *evaluator.scored(history.VARIANTS),
        *evaluator.measured(),
        *(parts.uses if parts else ()),
    )
    write_section(folder / "report", complete, trials)
    for card in cards:
        figures = complete.as_variant(card).headline
        console.print(f"{card.name}, on test: {', '.join(f'{key} {value:.4f}' for key, value in figures.items())}")
    return complete


def _try(
    reference: Path, evaluator: Evaluator, console: Console, methods: Sequence[str], scratch: Path, max_batch: int
) -> list[Trial]:
    """Makes a graph by each method and judges it on validation."""
    score = evaluator.score(reference)
    console.print(f"reference: validation {evaluator.figure} {score:.4f}")
    enough = score - evaluator.may_fall
    quantizer: Quantizer | None = None
    trials: list[Trial] = []
    for method in methods:
        path = scratch / f"{method}.onnx"
        device: Literal["cpu", "cuda"] = "cpu"
        try:
            if method in ("int8", "int8-mixed"):
                if any(trial.name == "int8" and _is_good(trial, enough) for trial in trials):
                    continue  # with all layers in int8 there is nothing that a mixture could be better at
                quantizer = quantizer or Quantizer(reference, evaluator.calibration(CALIBRATION), scratch)
                in_float = []
                if method == "int8-mixed":
                    in_float = _sensitive_layers(quantizer, reference, evaluator, enough, path, console)
                quantizer.write(path, in_float)
                words = f"{_INT8}; {len(in_float)} of {len(quantizer.layers)} layers in float: {', '.join(in_float)}"
                words = words if in_float else _INT8
            elif method == "float16":
                device, words = "cuda", "weights and arithmetic in half precision, the end in float32"
                write_float16(reference, path)
            else:
                words = "word vectors in half precision"
                write_half_vectors(reference, path)
            kept = Kept(figure=evaluator.figure, value=evaluator.score(path), reference=score)
        except (ValueError, InvalidModel) as error:  # the runtime cannot run every graph that the tools write
            console.print(f"{method}: not possible: {error}")
            continue
        examples = evaluator.examples(max_batch)
        measurable = device == "cpu" or cuda_problem() is None
        speed = compare_speed(path, reference, examples, device) if measurable else ()
        sizes = path.stat().st_size, reference.stat().st_size
        trial = Trial(method, path, device, words, kept, *sizes, speed, None)
        trial = trial.with_reason(_why_not(trial, enough))
        console.print(trial.words)
        trials.append(trial)
    return trials


_INT8 = (
    "static int8 (QDQ, per channel, unsigned activations, signed weights), calibrated with the percentile "
    f"{PERCENTILE} of the activations on training inputs"
)


def _is_good(trial: Trial, enough: float) -> bool:
    """Whether a variant is as good as it has to be; what it gains is another question."""
    # The reference's figures have four digits or so; a rounding error decides nothing.
    return trial.validation.value >= enough + 1e-9


def _why_not(trial: Trial, enough: float) -> str | None:
    """Why a variant is not kept; None if it is."""
    validation = trial.validation
    if not _is_good(trial, enough):
        return f"validation {validation.figure} falls by {validation.reference - validation.value:.4f}"
    if trial.gain < FASTER and trial.size > SMALLER * trial.reference_size:
        return f"neither {FASTER} times as fast nor half as large"
    return None


def _sensitive_layers(
    quantizer: Quantizer, reference: Path, evaluator: Evaluator, enough: float, path: Path, console: Console
) -> list[str]:
    """The layers to leave in float so that a graph is good enough: those that bring it closest to the reference.

    Each layer alone is left in float, and what the answers then gain tells how sensitive it is to quantisation.

    Raises:
        ValueError: so many would have to stay in float that it is not worth it.
    """
    inputs = evaluator.examples(_COMPARED)
    wanted = _answers(reference, inputs, evaluator.compared)
    distance: dict[str, float] = {}
    for layer in quantizer.layers:
        quantizer.write(path, [layer])
        distance[layer] = float(np.abs(_answers(path, inputs, evaluator.compared) - wanted).mean())
    ranked = sorted(distance, key=distance.__getitem__)
    console.print("the most sensitive layers: " + ", ".join(f"{name} ({distance[name]:.2g})" for name in ranked[:5]))
    for count in range(1, 1 + int(len(ranked) * _SHARE_IN_FLOAT)):
        quantizer.write(path, ranked[:count])
        if evaluator.score(path) > enough:
            return ranked[:count]
    raise ValueError(f"with a fifth of the {len(ranked)} layers in float it is not good enough")


def _answers(graph: Path, inputs: Any, output: str) -> Any:
    session = Session(graph, "cpu")
    return session.run(inputs)[session.outputs.index(output)]


def _keep(trial: Trial, folder: Path, manifest: ManifestBase, evaluator: Evaluator, parts: Parts | None) -> VariantCard:
    """Measures a variant on test and writes its files.

    Raises:
        Irreproducible: its answers depend too much on what computes them.
    """
    fields = evaluator.finish(trial.path)
    if parts is not None:
        fields["familiarity"] = add_familiarity(trial.path, parts)
    card_type: Callable[..., VariantCard] = get_args(type(manifest).model_fields["variants"].annotation)[0]
    golden = write_golden(trial.path, trial.name, folder, manifest)
    tolerances = golden.lists.tolerances if golden.lists else golden.tolerances
    tolerance = tolerances.get(evaluator.compared, golden.atol)
    if tolerance > _MOST_TOLERATED:
        (folder / golden.file).unlink()
        raise Irreproducible(f"its {evaluator.compared} may be off by {tolerance:g} from one kernel to another")
    shutil.copy(trial.path, folder / f"{trial.name}.onnx")
    return card_type(
        name=trial.name,
        file=f"{trial.name}.onnx",
        device=trial.device,
        method=trial.method,
        golden=golden,
        size=trial.path.stat().st_size,  # with what was fitted last
        validation=trial.validation,
        speed=trial.speed,
        **fields,
    )
