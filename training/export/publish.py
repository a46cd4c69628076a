"""From exported files to versions that the service serves: manifests, drafts, version numbers."""

import contextlib
import shutil
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from service.inference.cards import AUTO, ManifestBase
from service.inference.drafts import new_draft, take_number
from service.inference.manifest import MANIFEST, InvalidModel, check_files, sha256
from service.inference.session import Session
from service.inference.variants import graphs
from service.inference.versions import versions_in
from training.engine.checkpoint import unfinished
from training.engine.weights import WEIGHTS
from training.export.gate import Gate
from training.registry import read_manifest
from training.report.card import render_card

# Fills a folder with everything but the manifest, which it returns with its `files` still empty.
Write = Callable[[Path], ManifestBase]
# Where a training leaves its version, below the folder of its run.
DRAFT = "export"
_RENAME = "give yours a name of its own with --name"
_RENAME_LATER = "repeat the command of the training with --resume --publish and a --name of its own"


def check_name(root: Path, name: str, classes: Sequence[str], *, given: bool, advice: str = _RENAME) -> None:
    """Raises ValueError if the name is that of a model with other labels, unless the user has given it."""
    found = versions_in(root / name) if not given and (root / name).is_dir() else []
    for version in found[:1]:
        with contextlib.suppress(InvalidModel):
            labels = read_manifest(root / name / version).labels
            if set(labels) != set(classes):
                raise ValueError(
                    f"{root / name} holds a model of other labels ({', '.join(labels[:5]) or 'none'}…): {advice}."
                )


def write_draft(folder: Path, write: Write) -> None:
    """Fills `folder` with what `write` puts there, the model card, and the manifest with the sha256 of served files."""
    manifest = write(folder)
    render_card(folder, manifest)
    served = (path for path in sorted(folder.iterdir()) if path.is_file() and path.name not in (MANIFEST, WEIGHTS))
    complete = manifest.model_copy(update={"files": {path.name: sha256(path) for path in served}})
    (folder / MANIFEST).write_text(complete.model_dump_json(indent=1) + "\n")


def publish(root: Path, versions: Sequence[tuple[str, Write]], gate: Gate | None = None) -> list[Path]:
    """Publishes the next version of one or several models, all of them or none.

    Every version is written and checked before the first one gets its number. If one of them cannot get a number,
    those that have one are withdrawn. Without a gate the serving policies stay as they are.

    Raises:
        InvalidModel: what was written cannot be served.
        InvalidPolicy: the gate cannot use a serving policy, or ReadOnly: it cannot write one.
    """
    with contextlib.ExitStack() as undo:
        written = [_checked_draft(root / name, write, undo) for name, write in versions]
        if gate:
            gate.judge({name: read_manifest(draft) for (name, _), draft in zip(versions, written, strict=True)}, undo)
        published = [take_number(draft, undo) for draft in written]
        if gate:
            gate.settle(published, undo)
        undo.pop_all()
    return published


def drafts_of(run: Path) -> list[Path]:
    """The folders of the complete drafts of a run."""
    export = run / DRAFT
    return [manifest.parent for manifest in sorted([*export.glob(MANIFEST), *export.glob(f"*/{MANIFEST}")])]


def lacking(run: Path) -> str:
    """What a run lacks, in words: the end of its training, or its export; empty if nothing, or there is no run.

    A draft that is older than the checkpoint is of an earlier training.
    """
    written = [(draft / MANIFEST).stat().st_mtime for draft in drafts_of(run)]
    return unfinished(run, max(written, default=None))


def published_as(models: Path, draft: Path) -> str | None:
    """`NAME/VERSION` of the newest version that has the files of a draft; None if there is none."""
    manifest = read_manifest(draft)
    folder = models / manifest.name
    for version in versions_in(folder) if folder.is_dir() else ():
        with contextlib.suppress(InvalidModel):
            if read_manifest(folder / version).files == manifest.files != {}:
                return f"{manifest.name}/{version}"
    return None


def publish_draft(run: Path, models: Path, gate: Gate | None = None, *, any_name: bool = False) -> list[Path]:
    """Publishes the draft that a finished training left in the folder of its run, or all of several; see `publish`.

    Raises:
        ValueError: there is no complete draft, or, without `any_name`, its name is that of a model with other labels.
        InvalidModel: a file of the draft is missing or has changed since it was exported.
    """
    drafts = drafts_of(run)
    if not drafts:
        raise ValueError(f"{run}: holds no complete draft; a training leaves one when it is finished")
    versions: list[tuple[str, Write]] = []
    for draft in drafts:
        manifest = read_manifest(draft)
        check_files(draft, manifest, manifest.files)
        check_name(models, manifest.name, manifest.labels, given=any_name, advice=_RENAME_LATER)
        versions.append((manifest.name, partial(_copy_draft, draft, manifest)))
    return publish(models, versions, gate)


def _copy_draft(draft: Path, manifest: ManifestBase, target: Path) -> ManifestBase:
    for name in (*manifest.files, WEIGHTS):
        if (draft / name).is_file():
            shutil.copy(draft / name, target)
    if (draft / "report").is_dir():
        shutil.copytree(draft / "report", target / "report")
    return manifest


def _checked_draft(parent: Path, write: Write, undo: contextlib.ExitStack) -> Path:
    draft = new_draft(parent, undo)
    write_draft(draft, write)
    for graph in graphs(read_manifest(draft), AUTO, "cpu")[0]:
        Session(draft / graph.file, "cpu").check(draft, graph.manifest)
    return draft
