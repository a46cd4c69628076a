"""From a trained network to a version on disk: the graph, its check against PyTorch, golden file, publication."""

import contextlib
import importlib.metadata
import os
import platform
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import torch
from torch import Tensor, nn

from service.inference.manifest import GOLDEN, MANIFEST, MODEL, Manifest, TensorSpec, read_manifest, sha256
from service.inference.session import Session
from training.augment import to_pixels

OPSET = 20
CHECKED_BATCHES = (1, 2, 7)


class ExportMismatch(Exception):
    """ONNX Runtime does not give what PyTorch gives."""


class ClassifierGraph(nn.Module):
    """The whole graph of an image classifier: uint8 NHWC pixels in, calibrated probabilities out.

    Args:
        network: takes float pixels (batch, channels, height, width) in 0 to 1, returns logits.
        temperature: the logits are divided by it before the softmax.
    """

    def __init__(self, network: nn.Module, temperature: float) -> None:
        super().__init__()
        self.network = network
        self.temperature = temperature

    def forward(self, images: Tensor) -> Tensor:
        return torch.softmax(self.network(to_pixels(images)) / self.temperature, dim=1)


def export(
    graph: nn.Module,
    examples: npt.NDArray[np.uint8],
    path: Path,
    *,
    input_name: str,
    output_name: str,
    max_batch: int,
    atol: float = 1e-4,
) -> tuple[TensorSpec, TensorSpec, float]:
    """Writes `graph` as ONNX with a dynamic batch axis and checks it against PyTorch.

    Args:
        graph: maps one tensor to one; on the CPU, in float32.
        examples: at least `max_batch` real inputs.
        path: of the ONNX file.
        input_name: of its input.
        output_name: of its output.
        max_batch: the largest batch that is checked, after 1, 2 and 7.
        atol: the largest absolute difference that is accepted.

    Returns:
        The input's and the output's description, and the largest absolute difference seen.

    Raises:
        ExportMismatch: a batch gave something else than PyTorch.
    """
    graph.eval()
    program = torch.onnx.export(
        graph,
        (torch.from_numpy(examples[:2]),),
        input_names=[input_name],
        output_names=[output_name],
        dynamic_shapes=({0: torch.export.Dim("batch", min=1)},),
        opset_version=OPSET,
        dynamo=True,
        optimize=True,
        verbose=False,
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
    worst = 0.0
    for batch in (*CHECKED_BATCHES, max_batch):
        inputs = examples[:batch]
        got = session.run({input_name: inputs})[0]
        with torch.no_grad():
            want = graph(torch.from_numpy(inputs)).numpy()
        worst = max(worst, float(np.abs(got - want).max()))
        if got.shape != want.shape or not worst <= atol:
            raise ExportMismatch(
                f"batch of {batch}: shapes {got.shape} and {want.shape}, difference {worst:.2g} (at most {atol:.2g})"
            )
    return (
        TensorSpec(name=input_name, dtype="uint8", shape=(-1, *examples.shape[1:])),
        TensorSpec(name=output_name, dtype="float32", shape=(-1, *want.shape[1:])),
        worst,
    )


def write_golden(
    graph: nn.Module, inputs: npt.NDArray[np.uint8], path: Path, *, input_name: str, output_name: str
) -> None:
    """Writes real inputs and what PyTorch answers to them."""
    with torch.no_grad():
        outputs = graph(torch.from_numpy(inputs)).numpy()
    np.savez_compressed(path, **{input_name: inputs, output_name: outputs})


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
    """Writes `manifest` into `folder`, completed with the sha256 of the graph and the golden file beside it."""
    files = {file: sha256(folder / file) for file in (MODEL, GOLDEN)}
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
