"""Metadata and configuration of models, as the Open Inference Protocol has them."""

from collections.abc import Mapping, Sequence
from typing import Any

from quartet import __version__
from service.api.v2.tensors import datatype
from service.inference.cards import ManifestBase, TensorSpec
from service.inference.leases import Version

PLATFORM, BACKEND = "onnxruntime_onnx", "onnxruntime"
EXTENSIONS = (
    "classification",
    "model_configuration",
    "model_repository",
    "statistics",
    "schedule_policy",
    "binary_tensor_data",
    "parameters",
)
# Triton's names in a configuration that differ from the protocol's.
_TYPES = {"BYTES": "TYPE_STRING"}


def describe_server() -> dict[str, Any]:
    """The server's metadata."""
    return {"name": "quartet", "version": __version__, "extensions": list(EXTENSIONS)}


def describe_model(version: Version, numbers: Sequence[str]) -> dict[str, Any]:
    """A model's metadata; `numbers` are of its loaded versions."""
    manifest = version.manifest
    return {
        "name": version.name,
        "versions": list(numbers),
        "platform": PLATFORM,
        "inputs": [_tensor(spec) for spec in manifest.inputs],
        "outputs": [_tensor(spec) for spec in manifest.outputs],
    }


def describe_configuration(version: Version) -> dict[str, Any]:
    """A model's configuration, as `configuration` has it."""
    batching = {"preferred_batch_size": [version.max_batch], "max_queue_delay_microseconds": 0}
    kind = "KIND_CPU" if version.device == "cpu" else "KIND_GPU"
    return configuration(version.manifest, [version.version], kind, batching, variant=version.variant)


def configuration(
    manifest: ManifestBase, versions: Sequence[str], kind: str, batching: Mapping[str, Any], **parameters: str
) -> dict[str, Any]:
    """The ModelConfig of Triton as JSON, in which shapes leave the batch out, if there is one.

    Args:
        manifest: of one of the versions, which all have the same tensors.
        versions: their numbers.
        kind: of the devices, such as KIND_CPU.
        batching: the fields of `dynamic_batching`.
        **parameters: beside the description.
    """
    batched = manifest.batched
    parameters = {"description": manifest.description, **parameters}
    if manifest.adopted and manifest.adopted.metadata:
        # As a Python literal, which Ultralytics' client evaluates.
        parameters["metadata"] = repr(manifest.adopted.metadata)
    return {
        "name": manifest.name,
        "platform": PLATFORM,
        "backend": BACKEND,
        "version_policy": {"specific": {"versions": list(versions)}},
        "max_batch_size": manifest.max_batch if batched else 0,
        "input": [_configured(spec, batched) for spec in manifest.inputs],
        "output": [_configured(spec, batched) for spec in manifest.outputs],
        **({"dynamic_batching": dict(batching)} if batched else {}),
        "instance_group": [{"name": manifest.name, "kind": kind, "count": 1}],
        "parameters": {name: {"string_value": value} for name, value in parameters.items()},
    }


def _tensor(spec: TensorSpec) -> dict[str, Any]:
    return {"name": spec.name, "datatype": datatype(spec.dtype), "shape": list(spec.shape)}


def _configured(spec: TensorSpec, batched: bool) -> dict[str, Any]:
    name = datatype(spec.dtype)
    dims = spec.shape[1:] if batched else spec.shape
    return {"name": spec.name, "data_type": _TYPES.get(name, f"TYPE_{name}"), "dims": list(dims)}
