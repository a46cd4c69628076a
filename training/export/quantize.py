"""Adds variants to a version: graphs that are smaller or faster, and good enough to replace its reference.

Every variant is judged by its own exported graph: on validation, which decides whether it is kept, and then once on
test. The tools are those of ONNX Runtime: static int8 for a CPU, half precision for a GPU.
"""

import contextlib
import io
import logging
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar, get_args

import onnx
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST, convert_float_to_float16
from onnxruntime.transformers.onnx_model import OnnxModel
from rich.console import Console

from service.inference.cards import Kept, ManifestBase, Use, VariantCard
from service.inference.cuda import cuda_problem
from service.inference.manifest import MODEL, InvalidModel
from training.export import history
from training.export.distances import without_ood
from training.export.evaluator import Evaluator
from training.export.golden import write_variant_golden
from training.export.layers import LAYERS, Inputs, after_the_layers
from training.export.ood import OodData, add_ood
from training.export.variants import Device, Trial, compare_speed
from training.published_options import METHODS
from training.registry import data_of
from training.report.variants import write_variants

# Training inputs for the ranges of activations.
CALIBRATION = 1024
FASTER, SMALLER = 1.3, 0.5
_PERCENTILE = 99.99
# Of a probability or a score, by a golden file.
_MOST_TOLERATED = 0.1
_WORDS = {
    "int8": "static int8 (QDQ, per channel, unsigned activations, signed weights), calibrated with the percentile "
    f"{_PERCENTILE} of the activations on training inputs",
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
        Use(split="train", purpose=history.RANGES, items=min(CALIBRATION, data_of(manifest).train)),
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


class _Reader(CalibrationDataReader):
    # Batches are read one at a time: of those that it gets at once the runtime keeps every activation.

    def __init__(self, batches: Sequence[Inputs]) -> None:
        self._batches = batches
        self._range: Iterator[Inputs] = iter(batches)

    def __len__(self) -> int:
        return len(self._batches)

    def set_range(self, start_index: int, end_index: int) -> None:
        self._range = iter(self._batches[start_index:end_index])

    def get_next(self) -> Inputs | None:
        return next(self._range, None)


def write_int8(reference: Path, path: Path, batches: Sequence[Inputs]) -> None:
    """Writes the int8 graph of a float32 one; `batches` are training inputs.

    Unsigned activations and signed weights with a scale for each channel are what a CPU with VNNI multiplies fastest
    (Jacob et al. 2018, arXiv:1712.05877; ONNX Runtime's guide to quantisation). The range of an activation is the one
    that 99.99 % of its values fall into.
    """
    with contextlib.ExitStack() as undo, tempfile.TemporaryDirectory() as scratch:
        # The tools log, and print.
        logging.disable(logging.WARNING)
        undo.callback(logging.disable, logging.NOTSET)
        undo.enter_context(contextlib.redirect_stdout(io.StringIO()))
        prepared = Path(scratch) / "prepared.onnx"
        quant_pre_process(str(reference), str(prepared), skip_symbolic_shape=True)
        quantize_static(
            str(prepared),
            str(path),
            _Reader(batches),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            # Beside the layers: what may stay in 8 bits between them.
            op_types_to_quantize=[*LAYERS, "Add", "Clip", "MaxPool", "Mul", "Relu", "Sigmoid"],
            nodes_to_exclude=after_the_layers(onnx.load(prepared)),
            calibrate_method=CalibrationMethod.Percentile,
            # The name of the option is misleading: whatever the method, so many batches are read at a time.
            extra_options={"CalibPercentile": _PERCENTILE, "CalibStridedMinMax": 1},
        )


def write_float16(reference: Path, path: Path) -> None:
    """Writes a graph in half precision; inputs, outputs and what follows the last layer stay in float32."""
    model = onnx.load(reference)
    halved = convert_float_to_float16(
        model,
        keep_io_types=True,
        node_block_list=after_the_layers(model),
        op_block_list=[*DEFAULT_OP_BLOCK_LIST, "Softmax"],
    )
    # The converter casts a tensor once for each node that reads it, by the same name.
    once = {node.name or f"unnamed {index}": node for index, node in enumerate(halved.graph.node)}
    del halved.graph.node[:]
    halved.graph.node.extend(once.values())
    ordered = OnnxModel(halved)  # the converter appends its casts at the end
    ordered.topological_sort()
    del ordered.model.graph.value_info[:]  # and leaves the types of before
    onnx.save(ordered.model, path)
