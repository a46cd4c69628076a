"""From a trained network to ONNX: the graph, its check against PyTorch, the golden files."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch
from torch import nn

from service.inference.cards import GoldenCard, TensorSpec
from service.inference.golden import Difference, compare
from service.inference.session import Session
from training.data.lazy import cycled
from training.export.calibration import PREFIX

OPSET = 20


class ExportMismatch(Exception):
    """The exported graph's outputs differ from PyTorch's."""


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

    The nodes of its submodule `scaling` get the prefix by which `training.export.calibration` finds them.

    Args:
        graph: maps one tensor to one or to a tuple; on the CPU, in float32.
        examples: real inputs; they are repeated where a batch is larger.
        max_batch: the largest batch that is checked, after 1, 2 and 7.
        card: which differences are tolerated.
        axes: names of the input's leading dynamic axes.
        more: further inputs to check, of other lengths.
        translations: from custom operators to the ONNX functions that implement them.

    Returns:
        The specifications of the input and of the outputs, and the largest difference seen.

    Raises:
        ExportMismatch: the outputs for a batch differ from PyTorch's.
    """
    graph.eval()
    program = torch.onnx.export(
        graph,
        (torch.from_numpy(cycled(examples, 2)),),
        input_names=[input_name],
        output_names=list(output_names),
        dynamic_shapes=({axis: torch.export.Dim(name, min=1) for axis, name in enumerate(axes)},),
        opset_version=OPSET,
        dynamo=True,
        optimize=True,
        verbose=False,
        custom_translation_table=dict(translations) if translations else None,
    )
    if program is None:  # the declared type allows it; but the exporter always returns a graph
        raise ExportMismatch("the exporter returned no graph")
    # Everything in one file.
    onnx.save(without_debug_metadata(program.model_proto), path)
    onnx.checker.check_model(str(path), full_check=True)
    batches = [cycled(examples, batch) for batch in (1, 2, 7, max_batch)]
    session, seen = Session(path, "cpu"), []
    for inputs in (*batches, *more):
        want = torch_outputs(graph, inputs, output_names)
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
    want = torch_outputs(graph, examples[:2], output_names)
    return (
        TensorSpec(name=input_name, dtype=str(examples.dtype), shape=(-1,) * len(axes) + examples.shape[len(axes) :]),
        tuple(TensorSpec(name=n, dtype=str(want[n].dtype), shape=(-1, *want[n].shape[1:])) for n in output_names),
        max(seen, key=lambda difference: difference.ratio),
    )


def without_debug_metadata(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model without the exporter's notes, which contain paths of this machine."""
    for node in model.graph.node:
        scopes = next((note.value for note in node.metadata_props if note.key.endswith("name_scopes")), "")
        if "'scaling'" in scopes:
            node.name = f"{PREFIX}{node.name}"
        del node.metadata_props[:]
        node.doc_string = ""
    for value in (*model.graph.value_info, *model.graph.input, *model.graph.output, *model.graph.initializer):
        del value.metadata_props[:]
    del model.graph.metadata_props[:], model.metadata_props[:]
    return model


@torch.no_grad()
def torch_outputs(
    graph: nn.Module, inputs: npt.NDArray[Any], output_names: Sequence[str]
) -> dict[str, npt.NDArray[Any]]:
    """PyTorch's outputs, by name."""
    outputs = graph(torch.from_numpy(inputs))
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    return {name: output.numpy() for name, output in zip(output_names, outputs, strict=True)}


def write_golden(
    graph: nn.Module, inputs: npt.NDArray[Any], path: Path, *, input_name: str, output_names: Sequence[str]
) -> None:
    """Writes real inputs and PyTorch's outputs for them."""
    contents = {input_name: inputs, **torch_outputs(graph, inputs, output_names)}
    np.savez_compressed(path, allow_pickle=False, **contents)
