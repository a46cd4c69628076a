"""The labels of a model: from a file, or from what its exporter wrote beside the graph."""

import ast
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from quartet.adopt.graph import CannotAdopt

# Where exporters write labels: Ultralytics, Paddle's converter, Hugging Face and others.
_KEYS = ("names", "labels", "classes", "id2label", "character", "class_names")
_MOST = 100_000


def labels_of(path: Path | None, metadata: Mapping[str, str]) -> tuple[tuple[str, ...], str]:
    """The labels in the order of the graph's output, each once, and where they come from.

    Args:
        path: one label a line, or JSON: a list, or an object by index, as `id2label` in a `config.json`; None to look
            into the metadata.
        metadata: of the ONNX file.

    Raises:
        CannotAdopt: there are none, or the file cannot be read.
    """
    if path is not None:
        return _distinct(_read(path)), path.name
    for key in _KEYS:
        if found := parse(metadata.get(key, "")):
            return _distinct(found), f"{key} in the file's metadata"
    raise CannotAdopt(
        "labels", "The file's metadata names no labels: give --labels FILE, with one label a line in the graph's order."
    )


def parse(text: str) -> tuple[str, ...]:
    """The labels in a text: JSON, a Python literal, or one a line; with commas between if it is a single line.

    Empty if there are none.
    """
    for read in (json.loads, ast.literal_eval):
        try:
            return _of_document(read(text))
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
            continue
    if text.lstrip()[:1] in ("{", "["):
        return ()
    lines = text.strip("\r\n").splitlines()
    if len(lines) == 1:
        lines = text.split(",")
    return tuple(line.strip() for line in lines) if any(map(str.strip, lines)) else ()


def _read(path: Path) -> tuple[str, ...]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise CannotAdopt("labels", f"--labels {path} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise CannotAdopt("labels", f"--labels {path} is not UTF-8: save it so.") from None
    lines = text.rstrip().splitlines()
    # A label may be a number, which is JSON as well.
    found = parse(text) if text.lstrip()[:1] in ("[", "{") else tuple(line.strip() for line in lines)
    if not found:
        raise CannotAdopt("labels", f"--labels {path} holds no labels: write one a line, or a JSON list.")
    if "" in found:
        raise CannotAdopt("labels", f"--labels {path}: line {found.index('') + 1} is empty.")
    return found


def _of_document(document: Any) -> tuple[str, ...]:
    """The labels in a list or in an object by index; raises ValueError if it is neither."""
    if isinstance(document, dict):
        for key in _KEYS:
            if isinstance(document.get(key), list | dict):
                return _of_document(document[key])
        by_index = {int(key): value for key, value in document.items()}
        document = (
            [by_index[index] for index in range(len(by_index))] if by_index.keys() == {*range(len(by_index))} else []
        )
    if not isinstance(document, list | tuple) or not document or len(document) > _MOST:
        raise ValueError
    # Of ImageNet's class index, which has pairs of an identifier and a name, the name.
    return tuple(str(each[-1] if isinstance(each, list | tuple) and each else each).strip() for each in document)


def _distinct(labels: Sequence[str]) -> tuple[str, ...]:
    """The labels, those that occur again with their index: two of ImageNet's are called `crane`."""
    seen: set[str] = set()
    found = []
    for index, label in enumerate(labels):
        found.append(f"{label} ({index})" if label in seen else label)
        seen.add(found[-1])
    return tuple(found)
