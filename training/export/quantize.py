"""Adds variants to a published model: graphs that are smaller or faster, and good enough to replace it.

Every variant is judged by its own exported graph: on validation, which decides whether it is kept, and then once on
test. The result is a new version with the same reference.
"""

import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

from rich.console import Console

from service.inference.cards import Kept, ManifestBase, Use, VariantCard
from service.inference.cuda import cuda_problem
from service.inference.manifest import MODEL, InvalidModel
from training.export import history
from training.export.distances import remove_ood
from training.export.evaluator import Evaluator
from training.export.golden import write_variant_golden
from training.export.half import write_float16
from training.export.int8 import PERCENTILE, write_int8
from training.export.ood import add_ood
from training.export.ood_data import OodData
from training.export.published import publish_changed, reload
from training.export.speed import compare_speed
from training.export.variants import Trial
from training.published_options import METHODS
from training.registry import recipe_of
from training.report.variants import write_variants

# Training inputs for the ranges of activations.
CALIBRATION = 1024
FASTER, SMALLER = 1.3, 0.5
# Of a probability or a score, by a golden file.
_MOST_TOLERATED = 0.1
_WORDS = {
    "int8": "static int8 (QDQ, per channel, unsigned activations, signed weights), calibrated with the percentile "
    f"{PERCENTILE} of the activations on training inputs",
    "float16": "weights and arithmetic in half precision, the end in float32",
}
ManifestT = TypeVar("ManifestT", bound=ManifestBase)


class NothingKept(Exception):
    """No variant is worth keeping."""


class Irreproducible(Exception):
    """Kernels that compute the same graph differ too much: a golden file would catch nothing."""


def run(options: Any, console: Console) -> None:
    """Tries variants, and publishes a version with those that are kept."""
    methods = [name for name in METHODS if name in options.method]

    def add(target: Path, manifest: ManifestBase) -> ManifestBase:
        recipe, data = recipe_of(manifest), reload(manifest, target, options)
        evaluator = recipe.evaluator(manifest, target, data)
        has_ood = getattr(manifest, "familiarity", None) is not None
        ood_data = recipe.ood_data(manifest, target, data, {}) if has_ood else None
        return add_variants(target, manifest, evaluator, console, methods, ood_data)

    try:
        publish_changed(options, console, "quantize", add)
    except NothingKept:
        console.print(f"no variant of {options.model} is worth keeping: nothing is published")


def with_variants(
    folder: Path, manifest: ManifestT, evaluator: Evaluator, console: Console, ood_data: OodData | None = None
) -> ManifestT:
    """The manifest of a version that is being written, with the variants that were worth keeping, if any."""
    try:
        return add_variants(folder, manifest, evaluator, console, ood_data=ood_data)
    except NothingKept:
        console.print("no variant is worth keeping")
        return manifest


def add_variants(
    folder: Path,
    manifest: ManifestT,
    evaluator: Evaluator,
    console: Console,
    methods: Sequence[str] = METHODS,
    ood_data: OodData | None = None,
) -> ManifestT:
    """Tries variants of the version in `folder` and writes those that are kept into it.

    Args:
        folder: with the reference, its golden file and, perhaps, its report.
        manifest: of the version; its `files` are not looked at.
        evaluator: of its data.
        console: where progress goes.
        methods: which variants to try.
        ood_data: for a version with an out-of-distribution score: each variant gets one of its own features.

    Returns:
        The manifest with the variants that were kept.

    Raises:
        NothingKept: none was.
    """
    cards = []
    with tempfile.TemporaryDirectory() as scratch:
        reference = Path(scratch) / MODEL
        remove_ood(folder / MODEL, reference)
        trials = _try(reference, evaluator, console, methods, manifest.max_batch)
        for index, trial in enumerate(trials):
            if trial.kept:
                try:
                    cards.append(_keep(trial, folder, manifest, evaluator, ood_data))
                except Irreproducible as error:
                    trials[index] = replace(trial, rejection_reason=str(error))
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
        *(ood_data.uses if ood_data else ()),
    )
    write_variants(folder, trials)
    for card in cards:
        figures = complete.as_variant(card).headline
        console.print(f"{card.name}, on test: {', '.join(f'{key} {value:.4f}' for key, value in figures.items())}")
    return complete


def _try(
    reference: Path, evaluator: Evaluator, console: Console, methods: Sequence[str], max_batch: int
) -> list[Trial]:
    """Makes a graph by each method and judges it on validation."""
    score = evaluator.score(reference)
    console.print(f"reference: validation {evaluator.figure} {score:.4f}")
    trials: list[Trial] = []
    for method in methods:
        path = reference.with_name(f"{method}.onnx")
        device: Literal["cpu", "cuda"] = "cpu" if method == "int8" else "cuda"
        try:
            if method == "int8":
                write_int8(reference, path, evaluator.calibration(CALIBRATION))
            else:
                write_float16(reference, path)
            kept = Kept(figure=evaluator.figure, value=evaluator.score(path), reference=score)
        except (ValueError, InvalidModel) as error:  # the runtime cannot run every graph that the tools write
            console.print(f"{method}: not possible: {error}")
            continue
        measurable = device == "cpu" or cuda_problem() is None
        speed = compare_speed(path, reference, evaluator.examples(max_batch), device) if measurable else ()
        sizes = path.stat().st_size, reference.stat().st_size
        trial = Trial(method, path, device, _WORDS[method], kept, *sizes, speed)
        trial = replace(trial, rejection_reason=_rejection_reason(trial, evaluator.max_drop))
        console.print(str(trial))
        trials.append(trial)
    return trials


def _rejection_reason(trial: Trial, max_drop: float) -> str | None:
    validation = trial.validation
    # A rounding error decides nothing.
    if (drop := validation.reference - validation.value) > max_drop - 1e-9:
        return f"validation {validation.figure} falls by {drop:.4f}"
    if trial.gain < FASTER and trial.size > SMALLER * trial.reference_size:
        return f"neither {FASTER} times as fast nor half as large"
    return None


def _keep(
    trial: Trial, folder: Path, manifest: ManifestBase, evaluator: Evaluator, ood_data: OodData | None
) -> VariantCard:
    """Measures a variant on test and writes its files.

    Raises:
        Irreproducible: its answers depend too much on what computes them.
    """
    fields = evaluator.finish(trial.path)
    if ood_data is not None:
        fields["familiarity"] = add_ood(trial.path, ood_data)
    golden = write_variant_golden(trial.path, trial.name, folder, manifest)
    tolerances = golden.lists.tolerances if golden.lists else golden.tolerances
    tolerance = tolerances.get(evaluator.compared, golden.atol)
    if tolerance > _MOST_TOLERATED:
        (folder / golden.file).unlink()
        raise Irreproducible(f"its {evaluator.compared} may be off by {tolerance:g} from one kernel to another")
    shutil.copy(trial.path, folder / f"{trial.name}.onnx")
    card_type: Callable[..., VariantCard] = get_args(type(manifest).model_fields["variants"].annotation)[0]
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
