"""The typed card beside every model: what it is, how to feed it, how good it is, what made it.

`models/<name>/<version>/` holds `model.onnx`, `manifest.json`, `golden.npz`, `report/` and whatever else the
task needs; the manifest names the sha256 of each file that serving reads. One pydantic model per task.
"""

import hashlib
from pathlib import Path
from typing import Annotated

from pydantic import Field, TypeAdapter, ValidationError

from service.inference.manifests.classification import ClassifierManifest, TextManifest
from service.inference.manifests.coding import AutoencoderManifest, DecoderManifest, EncoderManifest
from service.inference.manifests.detection import DetectorManifest
from service.inference.manifests.tabular import TabularManifest

MANIFEST = "manifest.json"
MODEL = "model.onnx"
GOLDEN = "golden.npz"


class InvalidModel(Exception):
    """A version on disk cannot be served; the message says why."""


Manifest = (
    ClassifierManifest
    | DetectorManifest
    | TextManifest
    | TabularManifest
    | AutoencoderManifest
    | EncoderManifest
    | DecoderManifest
)
_MANIFEST: TypeAdapter[Manifest] = TypeAdapter(Annotated[Manifest, Field(discriminator="task")])


def read_manifest(folder: Path) -> Manifest:
    """The manifest of the version in `folder`, after checking the sha256 of every file that it names.

    Raises:
        InvalidModel: it is missing or malformed, or a file is missing or is not the one it was made with.
    """
    path = folder / MANIFEST
    try:
        manifest = _MANIFEST.validate_json(path.read_bytes())
    except FileNotFoundError:
        raise InvalidModel(f"{path} is missing") from None
    except OSError as error:
        raise InvalidModel(f"{path} cannot be read: {error.strerror}") from None
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise InvalidModel(f"{path}: {place}: {first['msg']}") from None
    for name in (MODEL, GOLDEN, *manifest.companions):
        if name not in manifest.files:
            raise InvalidModel(f"{path}: files: names no {name}")
    for name, expected in manifest.files.items():
        try:
            actual = sha256(folder / name)
        except FileNotFoundError:
            raise InvalidModel(f"{folder / name} is missing") from None
        except OSError as error:
            raise InvalidModel(f"{folder / name} cannot be read: {error.strerror}") from None
        if actual != expected:
            raise InvalidModel(f"{folder / name}: sha256 is {actual}, not {expected} as the manifest says")
    return manifest


def sha256(path: Path) -> str:
    """The hex digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
