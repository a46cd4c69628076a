"""The typed manifest beside every model: its inputs and outputs, its figures, and how it was made.

`models/<name>/<version>/` holds `model.onnx`, `manifest.json`, `golden.npz`, `report/` and any other file that the
task needs. The manifest states the sha256 of each file that serving reads. Each task has its own manifest class.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import pydantic_core
from pydantic import ValidationError

from service.inference.cards import GoldenCard, ManifestBase

MANIFEST = "manifest.json"
MODEL = "model.onnx"
GOLDEN: str = GoldenCard.model_fields["file"].default
_MOST_BYTES = 16_000_000
_FOLDERS = re.compile(r"(?<![\w.])/(?=\S)(?:[^/\n\"':]+/)*(?=[^/\s\"':])")


class InvalidModel(Exception):
    """A version on disk cannot be served; the message says why.

    Clients may read it: it names files relative to the version's folder.
    """


def without_folders(text: str) -> str:
    """A library's message, with absolute paths cut to the names of the files."""
    return _FOLDERS.sub("", text)


def read_manifest(folder: Path, kinds: Mapping[str, type[ManifestBase]]) -> ManifestBase:
    """The manifest of the version in `folder`, after checking the sha256 of every file but those of its variants.

    Args:
        folder: of the version.
        kinds: the class of the manifest, by the name of the task.

    Raises:
        InvalidModel: it is missing or malformed, or a file is missing or differs from its sha256.
    """
    path = folder / MANIFEST
    # Reading a named pipe without a writer would block forever.
    if path.exists() and not path.is_file():
        raise InvalidModel(f"{MANIFEST}: is not a file")
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise InvalidModel(f"{MANIFEST}: is over {_MOST_BYTES / 1e6:g} MB")
        document = pydantic_core.from_json(path.read_bytes())
    except FileNotFoundError:
        raise InvalidModel(f"{MANIFEST}: is missing") from None
    except OSError as error:
        raise InvalidModel(f"{MANIFEST}: cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise InvalidModel(f"{MANIFEST}: is not JSON: {error}") from None
    task = document.get("task") if isinstance(document, dict) else None
    if not isinstance(task, str) or task not in kinds:
        raise InvalidModel(f"{MANIFEST}: task: {task!r} is not one of {', '.join(kinds)}")
    try:
        manifest = kinds[task].model_validate(document)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise InvalidModel(f"{MANIFEST}: {field}: {first['msg']}") from None
    of_variants = {name for variant in manifest.variants for name in (variant.file, variant.golden.file)}
    needed = (MODEL, manifest.golden.file, *manifest.companions)
    check_files(
        folder, manifest, dict.fromkeys((*needed, *(name for name in manifest.files if name not in of_variants)))
    )
    return manifest


def check_files(folder: Path, manifest: ManifestBase, names: Iterable[str]) -> None:
    """Checks the sha256 of files of a version.

    Raises:
        InvalidModel: one is missing, is not named in the manifest, or differs from its sha256.
    """
    for name in names:
        path = folder / name
        if name not in manifest.files:
            raise InvalidModel(f"{MANIFEST}: files: names no {name}")
        # Neither a path out of the folder nor a named pipe may be opened.
        if Path(name).name != name or (path.exists() and not path.is_file()):
            raise InvalidModel(f"{MANIFEST}: files: {name!r} is not a file of this version")
        try:
            actual = sha256(path)
        except FileNotFoundError:
            raise InvalidModel(f"{name}: is missing") from None
        except OSError as error:
            raise InvalidModel(f"{name}: cannot be read: {error.strerror}") from None
        if actual != manifest.files[name]:
            raise InvalidModel(f"{name}: is not the file that the manifest was made with")


def has_changed(folder: Path, manifest: ManifestBase) -> bool:
    """Whether a file that the manifest names, or the manifest itself, is not what it was when it was read."""
    try:
        check_files(folder, manifest, manifest.files)
        document = pydantic_core.from_json((folder / MANIFEST).read_bytes())
        return bool(document["files"] != dict(manifest.files))
    except (InvalidModel, OSError, ValueError, KeyError, TypeError):
        return True


def sha256(path: Path) -> str:
    """The hex digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
