"""Adds variants to a version: graphs that are smaller or faster, and good enough to replace its reference.

Every variant is judged by its own exported graph: on validation, which decides whether it is kept, and then once on
test.
"""

import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar, get_args

import onnx
from rich.console import Console

from service.inference.cards import Kept, ManifestBase, Use, VariantCard
from service.inference.cuda import cuda_problem
from service.inference.manifest import MODEL, InvalidModel
from training.export import history
from training.export.distances import without_ood
from training.export.evaluator import Evaluator
from training.export.golden import write_variant_golden
from training.export.ood import add_ood
from training.export.ood_data import OodData
from training.export.precision import PERCENTILE, write_float16, write_int8
from training.export.variants import Device, Trial, compare_speed
from training.published_options import METHODS
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


def with_variants(
    folder: Path,
    manifest: ManifestT,
    evaluator: Evaluator,
    console: Console,
    ood_data: OodData | None = None,
    methods: Sequence[str] = METHODS,
) -> ManifestT:
    """Tries variants of the version in `folder` and writes those that are kept into it.

    With `ood_data`, each variant gets an out-of-distribution score of its own features.

    Returns:
        The manifest with the variants that were kept; `manifest` itself if none was.
    """
    cards: list[VariantCard] = []
    trials: list[Trial] = []
    with tempfile.TemporaryDirectory() as scratch:
        reference = Path(scratch) / MODEL
        onnx.save(without_ood(onnx.load(folder / MODEL)), reference)
        score = evaluator.score(reference)
        console.print(f"reference: validation {evaluator.figure} {score:.4f}")
        for method in methods:
            try:
                trial = _try(method, reference, score, evaluator, manifest.max_batch)
            except (ValueError, InvalidModel) as error:  # the runtime cannot run every graph that the tools write
                console.print(f"{method}: not possible: {error}")
                continue
            if trial.rejection_reason is None:
                kept = _keep(trial, folder, manifest, evaluator, ood_data)
                if isinstance(kept, str):
                    trial = replace(trial, rejection_reason=kept)
                else:
                    cards.append(kept)
            console.print(str(trial))
            trials.append(trial)
    if not cards:
        console.print(f"no variant of {manifest.name} is worth keeping")
        return manifest
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


def _try(method: str, reference: Path, score: float, evaluator: Evaluator, max_batch: int) -> Trial:
    path = reference.with_name(f"{method}.onnx")
    device: Device = "cpu" if method == "int8" else "cuda"
    if method == "int8":
        write_int8(reference, path, evaluator.calibration(CALIBRATION))
    else:
        write_float16(reference, path)
    validation = Kept(figure=evaluator.figure, value=evaluator.score(path), reference=score)
    measurable = device == "cpu" or cuda_problem() is None
    speed = compare_speed(path, reference, evaluator.examples(max_batch), device) if measurable else ()
    sizes = path.stat().st_size, reference.stat().st_size
    trial = Trial(method, path, device, _WORDS[method], validation, *sizes, speed)
    # A rounding error decides nothing.
    if (drop := validation.reference - validation.value) > evaluator.max_drop - 1e-9:
        return replace(trial, rejection_reason=f"validation {validation.figure} falls by {drop:.4f}")
    if trial.gain < FASTER and trial.size > SMALLER * trial.reference_size:
        return replace(trial, rejection_reason=f"neither {FASTER} times as fast nor half as large")
    return trial


def _keep(
    trial: Trial, folder: Path, manifest: ManifestBase, evaluator: Evaluator, ood_data: OodData | None
) -> VariantCard | str:
    """Measures a variant on test and writes its files; otherwise says why a golden file would catch nothing."""
    fields = evaluator.finish(trial.path)
    if ood_data is not None:
        fields["familiarity"] = add_ood(trial.path, ood_data)
    golden = write_variant_golden(trial.path, trial.name, folder, manifest)
    tolerances = golden.lists.tolerances if golden.lists else golden.tolerances
    tolerance = tolerances.get(evaluator.compared, golden.atol)
    if tolerance > _MOST_TOLERATED:
        (folder / golden.file).unlink()
        return f"its {evaluator.compared} may be off by {tolerance:g} from one kernel to another"
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
