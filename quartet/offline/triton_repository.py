"""quartet triton-repository: the served models as a folder that Triton Inference Server and KServe serve.

https://docs.nvidia.com/deeplearning/triton-inference-server/user-guide/docs/user_guide/model_repository.html
"""

import argparse
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quartet.console import FAILED, MISUSED, fail
from quartet.extras import needs
from service.api.v2.descriptions import configuration
from service.inference.cards import ManifestBase, TensorSpec
from service.inference.manifest import MODEL, InvalidModel
from service.inference.versions import versions_in, versions_to_open
from service.models import policies_of
from service.policy.file import InvalidPolicy
from service.policy.policy import Policy, newest_first
from service.settings import Settings
from service.tasks.registry import Registry

_LABELS = "labels.txt"
_KINDS = {"auto": "KIND_AUTO", "cpu": "KIND_CPU"}  # every other device is a GPU


@dataclass(frozen=True, slots=True)
class Served:
    """A model that is written.

    Attributes:
        manifest: of its default version.
        folders: of its versions, the default one first.
    """

    manifest: ManifestBase
    folders: tuple[Path, ...]

    @property
    def versions(self) -> list[str]:
        """Their numbers."""
        return [folder.name for folder in self.folders]


class _LeftOut(Exception):
    """A model is not written; the message says why."""


def run(registry: Registry, settings: Settings, options: argparse.Namespace) -> int:
    """Writes the repository.

    Args:
        registry: the tasks of the models.
        settings: name the folder of the models, and the device.
        options: the folder `output`.

    Returns:
        0; 1 if nothing can be written; 2 if the folder is not empty.
    """
    output: Path = options.output.absolute()
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        return fail(MISUSED, f"{options.output} is not empty: name a new folder.")
    if not settings.models.is_dir():
        return fail(FAILED, f"there is no folder {settings.models}: name one with --models.")
    models = list(_served(registry, settings))
    if not models:
        return fail(FAILED, f"{settings.models} holds no model that can be served.")
    try:
        _write(models, output, _KINDS.get(settings.device, "KIND_GPU"))
    except OSError as error:
        return fail(FAILED, f"{options.output} cannot be written: {error.strerror or error}.")
    for model in models:
        print(f"{model.manifest.name}: version {', '.join(model.versions)}")
    print(f"written: {options.output}. Serve it with: tritonserver --model-repository {options.output}")
    return 0


def _served(registry: Registry, settings: Settings) -> Iterator[Served]:
    """The models that a server of these settings would serve; says why others are left out."""
    policies = policies_of(settings)
    for folder in sorted(path for path in settings.models.iterdir() if path.is_dir()):
        if not (found := versions_in(folder)):
            continue
        try:
            policy = policies.read(folder.name)
            if policy.serve:
                yield _choose(registry, folder, found, policy)
        except (InvalidPolicy, _LeftOut) as error:
            print(f"left out: {folder.name}: {error}")


def _choose(registry: Registry, folder: Path, found: Sequence[str], policy: Policy) -> Served:
    """The default version of a model, and those before it that are served too.

    Triton answers with the version of the highest number, unless a client names another.
    """
    wanted = versions_to_open(found, policy)
    manifests: dict[str, ManifestBase] = {}
    problem = "its policy asks for no version that exists"
    for version in dict.fromkeys([*wanted, *found]):
        if version not in wanted and policy.default_of(manifests):
            break
        try:
            if version.startswith("0"):
                raise InvalidModel("Triton ignores numbers that begin with 0")
            manifests[version] = registry.read_manifest(folder / version)
        except InvalidModel as error:
            problem = f"version {version}: {error}"
    default = policy.default_of(manifests)
    if default is None:
        raise _LeftOut(problem)
    kept = [default]
    for version in newest_first(manifests.keys() - {default}):
        if int(version) > int(default):
            print(f"left out: {folder.name}/{version}: Triton would answer with it instead of version {default}")
        elif why := _why_not_beside(manifests[version], manifests[default]):
            print(f"left out: {folder.name}/{version}: {why}")
        else:
            kept.append(version)
    return Served(manifests[default], tuple(folder / version for version in kept))


def _why_not_beside(other: ManifestBase, default: ManifestBase) -> str | None:
    """Why two versions cannot share a configuration; None if they can."""
    for name in ("inputs", "outputs", "labels", "batched"):
        if getattr(other, name) != getattr(default, name):
            return f"its {name} differ from those of the default version"
    return None


def _write(models: Sequence[Served], output: Path, kind: str) -> None:
    """Writes the repository beside its place and moves it there."""
    output.parent.mkdir(parents=True, exist_ok=True)
    graphs = [folder / MODEL for model in models for folder in model.folders]
    size, free = sum(graph.stat().st_size for graph in graphs), shutil.disk_usage(output.parent).free
    if size > free:
        raise OSError(f"it needs {size / 1e6:.0f} MB, and {free / 1e6:.0f} MB are free")
    with tempfile.TemporaryDirectory(prefix=f".{output.name}.", dir=output.parent) as name:
        draft = Path(name) / output.name
        for model in models:
            folder = draft / model.manifest.name
            for version in model.folders:
                (folder / version.name).mkdir(parents=True)
                # No hard link: the repository may be changed or moved without the models.
                shutil.copyfile(version / MODEL, folder / version.name / MODEL)
            (folder / "config.pbtxt").write_text(write_configuration(model.manifest, model.versions, kind))
            if any(_is_labelled(spec, model.manifest) for spec in model.manifest.outputs):
                labels = [" ".join(label.split()) for label in model.manifest.labels]
                (folder / _LABELS).write_text("".join(f"{label}\n" for label in labels))
        draft.replace(output)


def _is_labelled(output: TensorSpec, manifest: ManifestBase) -> bool:
    """Whether an output has a number for each label."""
    return bool(manifest.labels) and output.dtype == "float32" and output.shape == (-1, len(manifest.labels))


def write_configuration(manifest: ManifestBase, versions: Sequence[str], kind: str) -> str:
    """The text of `config.pbtxt`; see `configuration`."""
    with needs("grpc"):
        from google.protobuf import json_format, text_format

        from quartet.protocol import inference_pb2
    document = configuration(manifest, versions, kind, {})
    for part, specs in (("input", manifest.inputs), ("output", manifest.outputs)):
        for tensor, spec in zip(document[part], specs, strict=True):
            if not tensor["dims"]:  # which Triton does not take
                tensor |= {"dims": [1], "reshape": {"shape": []}}
            if part == "output" and _is_labelled(spec, manifest):
                tensor["label_filename"] = _LABELS
    pb: Any = inference_pb2  # the generated module has no types
    text: str = text_format.MessageToString(json_format.ParseDict(document, pb.Configuration()), as_utf8=True)
    return text
