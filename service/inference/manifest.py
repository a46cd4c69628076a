"""The typed manifest beside every model: its inputs and outputs, its figures, and how it was made.

`models/<name>/<version>/` holds `model.onnx`, `manifest.json`, `golden.npz`, `report/` and any other file that the
task needs. The manifest states the sha256 of each file that serving reads. Each task has its own manifest class.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pydantic_core
from pydantic import ValidationError

from quartet import __version__
from service.inference.cards import GoldenCard, ManifestBase

MANIFEST = "manifest.json"
MODEL = "model.onnx"
GOLDEN: str = GoldenCard.model_fields["file"].default
# Raised when versions before could misread a manifest. A new field needs none: they refuse it.
FORMAT: int = ManifestBase.model_fields["format"].default
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
    manifest = _validate(document, kinds)
    of_variants = {name for variant in manifest.variants for name in (variant.file, variant.golden.file)}
    needed = (MODEL, manifest.golden.file, *manifest.companions)
    check_files(
        folder, manifest, dict.fromkeys((*needed, *(name for name in manifest.files if name not in of_variants)))
    )
    return manifest


def _validate(document: Any, kinds: Mapping[str, type[ManifestBase]]) -> ManifestBase:
    if not isinstance(document, dict):
        raise InvalidModel(f"{MANIFEST}: is not a JSON object")
    written = document.get("format")
    if isinstance(written, int) and written > FORMAT:
        raise InvalidModel(
            f"{MANIFEST}: format: a newer Quartet has written format {written}, and Quartet {__version__} reads up to "
            f"{FORMAT}: update Quartet here, or export the model again with this version"
        )
    task = document.get("task")
    former = {name: kind for kind in kinds.values() for name in kind.former_tasks}
    kind = (former | dict(kinds)).get(task) if isinstance(task, str) else None
    if kind is None:
        raise InvalidModel(f"{MANIFEST}: task: {task!r} is not one of {', '.join(kinds)}")
    try:
        return kind.model_validate({**document, "task": kind.model_fields["task"].default})
    except ValidationError as error:
        first = error.errors()[0]
        field, problem = ".".join(str(part) for part in first["loc"]), first["msg"]
        if first["type"] == "extra_forbidden":
            problem = (
                f"Quartet {__version__} has no such field: if a newer one has written it, update Quartet here; "
                "otherwise remove it"
            )
        raise InvalidModel(f"{MANIFEST}: {field}: {problem}") from None


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
