"""The last lines of a training: what was published, how to ask it, where its report is, and who serves it."""

import json
import shlex
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

from service.inference.cards import ManifestBase
from service.tasks.base import Format, Images
from service.tasks.registry import BUILT_IN, read_manifest

_URL = "http://127.0.0.1:8000"
# Characters of an example that is still pasted into a command.
_LONGEST = 600


def describe_published(
    models: Path, folders: Sequence[Path], text: str = "", candidates: Collection[str] = ()
) -> Iterator[str]:
    """The lines.

    Args:
        models: the folder of the models.
        folders: of the versions that were published.
        text: to ask a model of texts about, such as those that it was trained on; an English one by default.
        candidates: the models whose new version is not the default, so that only its number asks it.
    """
    for folder in folders:
        manifest = read_manifest(folder)
        figures = ", ".join(_figure(name, value, manifest) for name, value in manifest.headline.items())
        yield f"published {folder}" + (f": {figures}" if figures else "")
        name = f"{manifest.name}/{folder.name}" if manifest.name in candidates else manifest.name
        yield f"ask it:   {ask(manifest, _URL, text, name)}"
        yield f"report:   {folder / 'report' / 'README.md'}"
    where = "" if models == Path("models") else f" --models {shlex.quote(str(models))}"
    yield f"serve it: quartet serve{where}; a server that runs takes the new version after kill -USR1 PID"


def ask(manifest: ManifestBase, url: str, text: str = "", name: str = "") -> str:
    """A command that asks a model.

    Args:
        manifest: of its version.
        url: of the server.
        text: see `describe_published`.
        name: of the model, perhaps with a version; empty for that in the manifest.
    """
    operation = BUILT_IN.tasks[manifest.task].operations[0]
    route = shlex.quote(f"{url}/v1/{operation.name}?model={name or manifest.name}")
    if isinstance(operation.reads, Images):
        return f"curl --data-binary @picture.jpg -H 'Content-Type: image/jpeg' {route}"
    if text:
        kind, body = "text/plain", " ".join(text.split())[:_LONGEST]
        # What begins with @ would be taken for the name of a file.
        return f"curl --data-raw {shlex.quote(body)} -H 'Content-Type: {kind}' {route}"
    kind, body = _document(operation.reads.formats, manifest)
    # A stream is a picture here, which no terminal shows.
    saved = " -o answer.png" if operation.facts is not None else ""
    return f"curl -d {shlex.quote(body)} -H 'Content-Type: {kind}' {route}{saved}"


def _document(formats: Mapping[str, Format], manifest: ManifestBase) -> tuple[str, str]:
    """The media type and the text of an example; a file's name stands for one that is too long to paste."""
    kind = next(iter(formats))
    example = formats[kind].example(manifest)
    body = example if isinstance(example, str) else json.dumps(example, ensure_ascii=False)
    if len(body) > _LONGEST and "text/csv" in formats:
        return "text/csv", "@rows.csv"
    return kind, body


def _figure(name: str, value: float, manifest: ManifestBase) -> str:
    interval = manifest.intervals.get(name)
    return f"{name} {value:.4f}" + (f" ({interval[0]:.4f} to {interval[1]:.4f})" if interval else "")
