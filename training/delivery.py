"""What follows a training: drafts in the folder of its run first, then, with --publish, versions."""

import json
import math
import shlex
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from rich.console import Console

from quartet.console import as_typed
from service.inference.cards import BaselineCard, ManifestBase
from service.inference.manifest import MODEL
from training.baseline import below_baseline, beside_baseline
from training.cross_validation import PHASE
from training.engine.checkpoint import stopped
from training.engine.weights import CHECKPOINT, keep_weights
from training.export import lineage
from training.export.gate import Gate, comparable_fingerprint
from training.export.histograms import with_histograms
from training.export.ood import with_ood
from training.export.outcome import describe_published
from training.export.publish import DRAFT, drafts_of, lacking, publish_draft, published_as, write_draft
from training.export.quantize import with_variants
from training.options import PublishOptions
from training.recipe import Draft
from training.registry import read_manifest
from training.report.card import render_card
from training.report.record import read_record, update_record

if TYPE_CHECKING:
    from training.run import Run

# The command of a run, in its folder.
_COMMAND = "command.json"
# What its publication needs of the training: whether --name was given, and a text for the example request.
_PUBLISHING = "publishing.json"


class NotPublished(Exception):
    """A model is worse than its baseline, and nobody confirmed that it is to be published; the message says so."""


def deliver(run: "Run[Any, Any]", drafts: Sequence[Draft]) -> None:
    """Writes the drafts into the folder of the run, and publishes them with --publish, all or none.

    Raises:
        NotPublished: one is worse than its baseline, and nobody confirmed that it is to be published.
    """
    options, export = run.options, run.folder / DRAFT
    shutil.rmtree(export, ignore_errors=True)
    card = None
    if run.baseline:
        with run.phase("baseline on test"):
            card = run.baseline.card(run.phases.seconds["baseline"])
            # A figure of too few items may not be a number.
            card = card if math.isfinite(card.validation + card.test) else None
    for draft in drafts:
        folder = export if len(drafts) == 1 else export / draft.name
        folder.mkdir(parents=True, exist_ok=True)
        with run.phase("export and evaluation"):
            write_draft(folder, partial(_write, run, draft, card))
        if line := beside_baseline(read_manifest(folder)):
            run.console.print(f"{draft.name}: {line}", highlight=False, soft_wrap=True)
    if run.cross_validate:
        _cross_validate(run, run.cross_validate)
    lineage.save(run.folder, read_manifest(drafts_of(run.folder)[0]).history)
    publishing = {"named": bool(options.name), "example": next((each.example for each in drafts), "")}
    (run.folder / _PUBLISHING).write_text(json.dumps(publishing) + "\n")
    if options.publish:
        publish_run(
            run.folder,
            options.publishing,
            run.console,
            ask=run.ask,
            again=options.resume,
        )
    else:
        for each in drafts_of(run.folder):
            _warn_below(run.console, read_manifest(each))
        run.console.print(
            f"exported to {export}; `{as_typed()} publish {shlex.quote(str(run.folder))}` publishes it",
            highlight=False,
            soft_wrap=True,
        )


def _cross_validate(run: "Run[Any, Any]", study_of: Callable[[], Mapping[str, Any]]) -> None:
    """Adds the study, or that it failed, to the cards of the drafts, which are complete without it."""
    studies: Mapping[str, Any] = {}
    with run.optional(PHASE):
        studies = study_of()
    for folder in drafts_of(run.folder):
        manifest = read_manifest(folder)
        more = [studies[manifest.name]] if manifest.name in studies else []
        update_record(folder, studies=[*read_record(folder).get("studies", []), *more], failed=run.phases.failed)
        render_card(folder, manifest)


def publish_run(
    folder: Path,
    options: PublishOptions,
    console: Console,
    *,
    ask: bool = False,
    again: bool = True,
) -> None:
    """Publishes the drafts of a run.

    `again` if the run may have been published, so that versions with the same files are looked for, and are not
    published twice.

    Raises:
        NotPublished: one is worse than its baseline, and nobody confirmed that it is to be published.
        ValueError: there is no complete draft.
    """
    earlier = [published_as(options.models, draft) for draft in drafts_of(folder)] if again else []
    if versions := [each for each in earlier if each and None not in earlier]:
        for version in versions:
            promote = f"quartet models promote {version.replace('/', ' ')}"
            more = f"; to make it the default: {promote}" if options.force else ""
            console.print(f"already published as {version}{more}", highlight=False, soft_wrap=True)
        return
    below = [line for draft in drafts_of(folder) if (line := _warn_below(console, read_manifest(draft)))]
    if below and not options.yes:
        if not ask:
            nevertheless = f"{as_typed()} publish {shlex.quote(str(folder))} --yes"
            raise NotPublished(f"It is not published. `{nevertheless}` publishes it nevertheless.")
        if console.input("Publish it nevertheless? [y/N] ").strip().lower() not in ("y", "yes"):
            raise NotPublished(f"It is not published, and stays in {folder / DRAFT}.")
    path, gate = folder / _PUBLISHING, Gate.of(options)
    publishing = json.loads(path.read_text()) if path.is_file() else {}
    folders = publish_draft(folder, options.models, gate, any_name=publishing.get("named", False))
    for line in describe_published(options.models, folders, publishing.get("example", ""), gate.candidates):
        console.print(line, highlight=False, soft_wrap=True)
    gate.print(console)


@contextmanager
def remembered(folder: Path, command: str) -> Iterator[None]:
    """Writes the command line of a run into its folder, from which `quartet publish` completes it.

    If it is refused, the earlier one of the folder is put back.
    """
    path = folder / _COMMAND
    before = path.read_bytes() if path.is_file() else None
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(command) + "\n")
    try:
        yield
    except ValueError:
        if before is not None:
            path.write_bytes(before)
        raise


def completing(options: Any) -> tuple[list[str], str] | None:
    """The arguments and the program that complete a run; None if its training has a draft, or no recorded command.

    Args:
        options: of `quartet publish`.

    Raises:
        ValueError: its training is not complete.
    """
    path = options.run / _COMMAND
    drafts, lacks = drafts_of(options.run), lacking(options.run)
    if (drafts and not lacks) or not path.is_file():
        return None
    command = json.loads(path.read_text())
    words = shlex.split(command)
    where = stopped(options.run) if (options.run / CHECKPOINT).is_file() else "did not complete an epoch"
    if where:
        again = command if "--resume" in words else f"{command} --resume"
        raise ValueError(f"{options.run}: there is nothing to publish, its training {where}. To go on with it: {again}")
    program, given = (words[:1], words[1:]) if words[0] == "quartet" else (words[:3], words[3:])
    more = [option for option in ("--resume", "--publish") if option not in given]
    more += [f"--{name}" for name in ("force", "candidate", "yes") if getattr(options, name)]
    if options.models != PublishOptions().models:
        more += ["--models", str(options.models)]
    return [*given, *more], " ".join(program)


def _warn_below(console: Console, manifest: ManifestBase) -> str:
    if line := below_baseline(manifest):
        advice = "Try more --epochs, another --seed, or more data."
        console.print(f"{line}. {advice}", style="yellow", highlight=False, soft_wrap=True)
    return line


def _write(run: "Run[Any, Any]", draft: Draft, baseline: BaselineCard | None, folder: Path) -> Any:
    manifest: Any = draft.write(folder)
    fingerprint = comparable_fingerprint(run.options.publishing.models / draft.name, run.data)
    data = manifest.data.model_copy(update={"fingerprint": fingerprint})
    score = draft.validation or (draft.evaluator and draft.evaluator.score)
    if baseline and score:
        baseline = baseline.model_copy(update={"model_validation": _finite(score(folder / MODEL))})
    intervals = {name: (low, high) for name, (low, high) in manifest.intervals.items() if math.isfinite(low + high)}
    manifest = manifest.model_copy(update={"data": data, "baseline": baseline, "intervals": intervals})
    if draft.network is not None and run.options.keep_weights:
        keep_weights(draft.network, folder)
    ood_data = None
    if draft.ood_data:
        with run.optional("out-of-distribution score"), _restored(folder):
            ood_data = draft.ood_data()
            manifest = with_ood(folder, manifest, ood_data, run.console)
    if draft.evaluator is not None and run.options.quantize:
        with run.optional("variants"), _restored(folder):
            manifest = with_variants(folder, manifest, draft.evaluator, run.console, ood_data)
    if draft.observed:
        with run.optional("histograms"):
            manifest = with_histograms(folder, manifest, draft.observed())
    durations = {name: round(seconds, 1) for name, seconds in run.phases.seconds.items()}
    update_record(
        folder,
        durations=durations,
        estimated=run.estimated and round(run.estimated, 1),
        elapsed=round(time.perf_counter() - run.started, 1),
        failed=run.phases.failed,
        warnings=run.data.inspection.warnings,
    )
    return manifest


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


@contextmanager
def _restored(folder: Path) -> Iterator[None]:
    """Puts the files of a draft back as they were if what happens to them fails."""
    with TemporaryDirectory() as scratch:
        kept = Path(scratch) / "kept"
        shutil.copytree(folder, kept)
        try:
            yield
        except BaseException:
            shutil.rmtree(folder)
            shutil.copytree(kept, folder)
            raise
