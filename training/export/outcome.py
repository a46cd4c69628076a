"""The last lines of a training: what was published, a request to it, where its report is, and how it is served."""

import json
import shlex
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from quartet.console import as_typed
from service.inference.cards import ManifestBase
from service.tasks.base import Images
from service.tasks.registry import BUILT_IN
from training.registry import read_manifest
from training.report.card import CARD

URL = "http://127.0.0.1:8000"
# Characters of an example that is still pasted into a command.
_LONGEST = 600


def describe_published(
    models: Path, folders: Sequence[Path], text: str = "", candidates: Collection[str] = ()
) -> Iterator[str]:
    """The lines about the versions in `folders`.

    `text` is the body of the request to a model of texts, by default an English example; `candidates` are the models
    whose new version is not the default, so that only its number asks it.
    """
    for folder in folders:
        manifest = read_manifest(folder)
        intervals = manifest.intervals
        figures = ", ".join(
            f"{name} {value:.4f}" + ("" if name not in intervals else " ({:.4f} to {:.4f})".format(*intervals[name]))
            for name, value in manifest.headline.items()
        )
        yield f"published {folder}" + (f": {figures}" if figures else "")
        name = f"{manifest.name}/{folder.name}" if manifest.name in candidates else manifest.name
        if manifest.task in BUILT_IN.tasks:
            yield f"ask it:   {ask(manifest, text, name)}"
        yield f"report:   {folder / CARD}"
    where = "" if models == Path("models") else f" --models {shlex.quote(str(models))}"
    serve = f"{as_typed()} serve{where}"
    yield f"serve it: {serve}; a running server loads it after kill -USR1, or itself with QUARTET_WATCH=1"


def ask(manifest: ManifestBase, text: str = "", name: str = "") -> str:
    """A command that asks a model, by a name that may have a version."""
    operation = BUILT_IN.tasks[manifest.task].operations[0]
    route = shlex.quote(f"{URL}/v1/{operation.name}?model={name or manifest.name}")
    if isinstance(operation.reads, Images):
        return f"curl --data-binary @picture.jpg -H 'Content-Type: image/jpeg' {route}"
    if text:
        # Not -d: curl reads a body that begins with @ from a file.
        body = shlex.quote(" ".join(text.split())[:_LONGEST])
        return f"curl --data-raw {body} -H 'Content-Type: text/plain' {route}"
    # The answer of the decoder is a picture, which a terminal cannot show.
    saved = " -o answer.png" if operation.facts is not None else ""
    if not operation.reads.required:
        return f"curl -X POST {route}{saved}"
    formats = operation.reads.formats
    kind, format_ = next(iter(formats.items()))
    example = format_.example(manifest)
    body = example if isinstance(example, str) else json.dumps(example, ensure_ascii=False)
    if len(body) > _LONGEST and "text/csv" in formats:
        kind, body = "text/csv", "@rows.csv"
    return f"curl -d {shlex.quote(body)} -H 'Content-Type: {kind}' {route}{saved}"
