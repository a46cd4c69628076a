"""From a trained network to a version on disk: the graph, its check against PyTorch, golden file, publication."""

import contextlib
import importlib.metadata
import os
import platform
import shutil
import tempfile
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence, Sized
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import onnx
import torch
from rich.console import Console
from torch import Tensor, nn

from service.inference.cards import DataCard, GoldenCard, TensorSpec, TrainingCard
from service.inference.golden import Difference, compare
from service.inference.manifest import MANIFEST, MODEL, Manifest, read_manifest, sha256
from service.inference.session import Session
from training.augment import to_pixels
from training.fit import WEIGHTS, FitState
from training.networks import mirrored

OPSET = 20
CHECKED_BATCHES = (1, 2, 7)


class ExportMismatch(Exception):
    """ONNX Runtime does not give what PyTorch gives."""


class ClassifierGraph(nn.Module):
    """The whole graph of an image classifier: uint8 NHWC pixels in, calibrated probabilities out.

    Args:
        network: takes float pixels (batch, channels, height, width) in 0 to 1, returns logits.
        temperature: the logits are divided by it before the softmax.
        mirror: whether the logits are the mean over the image and its mirror image.
    """

    def __init__(self, network: nn.Module, temperature: float, mirror: bool = False) -> None:
        super().__init__()
        self.network = network
        self.temperature = temperature
        self.mirror = mirror

    def forward(self, images: Tensor) -> Tensor:
        pixels = to_pixels(images)
        logits = mirrored(self.network, pixels) if self.mirror else self.network(pixels)
        return torch.softmax(logits / self.temperature, dim=1)


def export(
    graph: nn.Module,
    examples: npt.NDArray[Any],
    path: Path,
    *,
    input_name: str,
    output_names: Sequence[str],
    max_batch: int,
    card: GoldenCard,
    axes: Sequence[str] = ("batch",),
    more: Sequence[npt.NDArray[Any]] = (),
    translations: Mapping[Callable[..., Any], Callable[..., Any]] | None = None,
) -> tuple[TensorSpec, tuple[TensorSpec, ...], Difference]:
    """Writes `graph` as ONNX with a dynamic batch axis and checks it against PyTorch.

    Args:
        graph: maps one tensor to one or to a tuple; on the CPU, in float32.
        examples: at least `max_batch` real inputs.
        path: of the ONNX file.
        input_name: of its input.
        output_names: of its outputs.
        max_batch: the largest batch that is checked, after 1, 2 and 7.
        card: which differences are accepted.
        axes: names of the input's first axes that may have any length.
        more: further inputs that are checked, of other lengths.
        translations: from custom operators to the ONNX functions that stand for them.

    Returns:
        The input's and the outputs' description, and the largest difference seen.

    Raises:
        ExportMismatch: a batch gave something else than PyTorch.
    """
    graph.eval()
    program = torch.onnx.export(
        graph,
        (torch.from_numpy(examples[:2]),),
        input_names=[input_name],
        output_names=list(output_names),
        dynamic_shapes=({axis: torch.export.Dim(name, min=1) for axis, name in enumerate(axes)},),
        opset_version=OPSET,
        dynamo=True,
        optimize=True,
        verbose=False,
        custom_translation_table=dict(translations) if translations else None,
    )
    if program is None:  # the declared type allows it; the exporter then has no graph to give
        raise ExportMismatch("the exporter returned no graph")
    # Everything in one file; debug metadata would put this machine's paths into it.
    model = program.model_proto
    for node in model.graph.node:
        del node.metadata_props[:]
    for value in (*model.graph.value_info, *model.graph.input, *model.graph.output, *model.graph.initializer):
        del value.metadata_props[:]
    del model.graph.metadata_props[:], model.metadata_props[:]
    for node in model.graph.node:
        node.doc_string = ""
    onnx.save(model, path)
    onnx.checker.check_model(str(path), full_check=True)

    session = Session(path, "cpu")
    seen: list[Difference] = []
    for inputs in (*(examples[:batch] for batch in (*CHECKED_BATCHES, max_batch)), *more):
        want = answers(graph, inputs, output_names)
        got = dict(zip(output_names, session.run({input_name: inputs}), strict=True))
        try:
            seen.append(compare(want, got, card))
        except ValueError as error:
            raise ExportMismatch(f"batch of {len(inputs)}: {error}") from None
        if not seen[-1].acceptable:
            raise ExportMismatch(
                f"batch of {len(inputs)}: output {seen[-1].output} differs by {seen[-1].value:.2g} "
                f"(at most {seen[-1].accepted:.2g})"
            )
    return (
        TensorSpec(name=input_name, dtype=str(examples.dtype), shape=(-1,) * len(axes) + examples.shape[len(axes) :]),
        tuple(TensorSpec(name=n, dtype=str(want[n].dtype), shape=(-1, *want[n].shape[1:])) for n in output_names),
        max(seen, key=lambda difference: difference.value / difference.accepted),
    )


@torch.no_grad()
def answers(graph: nn.Module, inputs: npt.NDArray[Any], output_names: Sequence[str]) -> dict[str, npt.NDArray[Any]]:
    """What PyTorch answers, by the names of the outputs."""
    outputs = graph(torch.from_numpy(inputs))
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    return {name: output.numpy() for name, output in zip(output_names, outputs, strict=True)}


def write_golden(
    graph: nn.Module, inputs: npt.NDArray[Any], path: Path, *, input_name: str, output_names: Sequence[str]
) -> None:
    """Writes real inputs and what PyTorch answers to them."""
    contents = {input_name: inputs, **answers(graph, inputs, output_names)}
    np.savez_compressed(path, allow_pickle=False, **contents)


def library_versions() -> dict[str, str]:
    """Of what makes a model."""
    names = ("torch", "timm", "onnx", "onnxscript", "onnxruntime-gpu", "onnxruntime", "numpy", "datasets")
    found = {"python": platform.python_version()}
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Writes `manifest` into `folder`, completed with the sha256 of every file beside it that serving reads."""
    beside = (path for path in sorted(folder.iterdir()) if path.is_file() and path.name not in (MANIFEST, WEIGHTS))
    files = {path.name: sha256(path) for path in beside}
    complete = manifest.model_copy(update={"files": files})
    (folder / MANIFEST).write_text(complete.model_dump_json(indent=1) + "\n")


def publish(
    root: Path, name: str, write: Callable[[Path], Manifest]
) -> Path:  # fmt: skip
    """Puts the next version of `name` below `root`, whole or not at all.

    Args:
        root: the models folder.
        name: the model's.
        write: fills a folder with everything but the manifest and returns that, its `files` still empty.

    Returns:
        The version's folder.

    Raises:
        InvalidModel: what was written cannot be served.
    """
    parent = root / name
    parent.mkdir(parents=True, exist_ok=True)
    # In the same folder, so that the last step is one rename; a name that no server takes for a version.
    draft = Path(tempfile.mkdtemp(prefix=".draft-", dir=parent))
    try:
        write_manifest(draft, write(draft))
        Session(draft / MODEL, "cpu").check(draft, read_manifest(draft))
        taken = [int(path.name) for path in parent.iterdir() if path.name.isdecimal()]
        target = parent / str(max(taken, default=0) + 1)
        draft.chmod(0o755)
        os.rename(draft, target)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        with contextlib.suppress(OSError):  # it holds versions
            parent.rmdir()
        raise
    return target


def deliver(arguments: Namespace, name: str, folder: Path, write: Callable[[Path], Manifest], console: Console) -> None:
    """Publishes a version where `--publish` asks for it; otherwise leaves a draft.

    Args:
        arguments: of the recipe.
        name: the model's.
        folder: for the draft.
        write: as `publish` takes it.
        console: is told where the version is.
    """
    if arguments.publish:
        console.print(f"published {publish(arguments.models, name, write)}")
        return
    folder.mkdir(parents=True, exist_ok=True)
    write_manifest(folder, write(folder))
    console.print(f"exported to {folder}; --publish writes a version below {arguments.models}")


class _Splits(Protocol):
    """What every data set says of itself."""

    @property
    def name(self) -> str: ...
    @property
    def fingerprint(self) -> str: ...
    @property
    def train(self) -> Sized: ...
    @property
    def validation(self) -> Sized: ...
    @property
    def test(self) -> Sized: ...


def data_card(data: _Splits) -> DataCard:
    """What a model learned from and was measured on."""
    return DataCard(
        name=data.name,
        fingerprint=data.fingerprint,
        train=len(data.train),
        validation=len(data.validation),
        test=len(data.test),
    )


def training_card(recipe: str, settings: dict[str, Any], state: FitState, network: nn.Module) -> TrainingCard:
    """What made a model.

    Args:
        recipe: the command.
        settings: every setting of it.
        state: of the training that ended.
        network: whose numbers are counted.
    """
    return TrainingCard(
        recipe=recipe,
        settings=settings,
        epochs_run=state.epoch,
        best_epoch=state.best_epoch,
        seconds=round(state.seconds, 1),
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        versions=library_versions(),
    )
