"""Decides whether a new version becomes the default, and writes that into the serving policy of its model.

A version whose main test figure is worse than that of the version that serves only becomes the candidate.
"""

import contextlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from service.inference.cards import MainFigure, ManifestBase
from service.inference.manifest import InvalidModel
from service.inference.versions import versions_in
from service.policy.changes import promote, set_alias, trials
from service.policy.file import Change, PolicyFiles
from service.policy.policy import LATEST, Policy
from training.data.contents import fingerprint_like
from training.data.dataset import DataSet
from training.export.figures import Interval, difference, wilson
from training.registry import data_of, read_manifest

CANDIDATE = "candidate"


def compare(new: ManifestBase, serving: ManifestBase) -> tuple[bool, str]:
    """Whether a new version is worse than the serving one by the main test figure, and both figures in words.

    It is worse if the 95 % interval of the difference excludes that it is as good. A figure without an interval counts
    as exact. A version that cannot be compared is not worse; the words say why.
    """
    if new.data is None or serving.data is None or new.data.fingerprint != serving.data.fingerprint:
        return False, "the two cannot be compared: they were measured on different data"
    figure, other = new.main_figure, serving.main_figure
    if figure is None or other is None or figure.name != other.name:
        return False, "the two cannot be compared: they have no main test figure in common"
    (own, words), (of_other, other_words) = _interval(figure, new), _interval(other, serving)
    low, high = difference(figure.value, own, other.value, of_other)
    is_worse = high < 0 if figure.higher_is_better else low > 0
    return is_worse, f"{figure.name} {figure.value:.4g} ({words}) against {other.value:.4g} ({other_words})"


def _interval(figure: MainFigure, manifest: ManifestBase) -> tuple[Interval, str]:
    interval, items = manifest.intervals.get(figure.name), data_of(manifest).test
    if interval is None and figure.is_share and items:
        interval = wilson(round(figure.value * items), items)
    if interval is None:
        return (figure.value, figure.value), "of unknown interval"
    return interval, f"{interval[0]:.4g} to {interval[1]:.4g}"


def comparable_fingerprint(folder: Path, data: DataSet) -> str:
    """The fingerprint that a published version of the model in `folder` has of the same data; else that of `data`.

    Versions that are older than fingerprints of files ("files-sha256:") have one of pixels ("sha256:").
    """
    for version in versions_in(folder) if folder.is_dir() else ():
        with contextlib.suppress(InvalidModel):
            known = read_manifest(folder / version).data
            if known and fingerprint_like(data, known.fingerprint) == known.fingerprint:
                return known.fingerprint
    return data.fingerprint


@dataclass(slots=True)
class _Judged:
    """A model with a new version, which has no number yet, and the version that serves, if any."""

    model: str
    serving: str | None
    is_worse: bool = False
    comparison: str = ""
    version: str = ""
    is_default: bool = True


class Gate:
    """Decides on versions that are published together: if one of them is worse, all of them become candidates.

    `force` makes them the default, whatever the figures and the policy say; `candidate` makes them candidates.
    """

    def __init__(self, models: Path, *, force: bool = False, candidate: bool = False) -> None:
        state = os.environ.get("QUARTET_STATE")
        self._models = models
        self._policies = PolicyFiles(models, Path(state) if state else None)
        self._force = force
        self._candidate = candidate
        self._judged: list[_Judged] = []

    @classmethod
    def of(cls, arguments: Any) -> "Gate":
        """The gate for the options `models`, `force` and `candidate`."""
        return cls(arguments.models, force=arguments.force, candidate=arguments.candidate)

    def check(self, model: str) -> None:
        """Checks a policy before a training rather than after it; raises InvalidPolicy if it cannot be used."""
        self._policies.read(model)

    def judge(self, drafts: Mapping[str, ManifestBase], undo: contextlib.ExitStack) -> None:
        """Compares the versions, given by their models. If they become candidates, the policies keep the defaults.

        This must happen before the versions have numbers: a server would make them the default in the meantime.
        `undo` gets what restores the policies. Raises InvalidPolicy or ReadOnly.
        """
        self._judged = [self._judge(model, manifest) for model, manifest in drafts.items()]
        for judged in self._judged:
            if self._holds and judged.serving:
                change = partial(_keep, serving=judged.serving)
                self._edit(judged.model, change, f"keep {judged.serving} as the default", undo)

    def settle(self, folders: Sequence[Path], undo: contextlib.ExitStack) -> None:
        """Writes into the policies what the versions became, given their folders in the order of the drafts."""
        for judged, folder in zip(self._judged, folders, strict=True):
            judged.version = folder.name
            if self._holds:
                change = partial(_make_candidate, version=folder.name)
                self._edit(judged.model, change, f"publish {folder.name} as {CANDIDATE}", undo)
            elif self._force and judged.serving and not self._is_default(judged):
                change = partial(promote, version=folder.name, default=judged.serving)
                self._edit(judged.model, change, f"publish {folder.name} as the default", undo)
            judged.is_default = self._is_default(judged)

    @property
    def candidates(self) -> dict[str, str]:
        """The new versions that did not become the default, by the names of their models."""
        return {judged.model: judged.version for judged in self._judged if not judged.is_default}

    def print(self, console: Console) -> None:
        """Prints what was decided and why, and what to do next."""
        lines = [self._describe(judged) for judged in self._judged if judged.serving or self._candidate]
        for model, version in self.candidates.items():
            reference = CANDIDATE if self._holds else version
            lines.append(
                f"To compare it on live requests: quartet models shadow {model} {reference}. "
                f"To make it the default: quartet models promote {model} {reference}"
            )
        for line in lines:
            console.print(line, highlight=False, soft_wrap=True)

    @property
    def _holds(self) -> bool:
        return self._candidate or (not self._force and any(judged.is_worse for judged in self._judged))

    def _judge(self, model: str, manifest: ManifestBase) -> _Judged:
        policy, folder = self._policies.read(model), self._models / model
        found = set(versions_in(folder)) if folder.is_dir() else set()
        while version := policy.default_of(found):
            try:
                return _Judged(model, version, *compare(manifest, read_manifest(folder / version)))
            except InvalidModel:  # a server passes over it too
                found.remove(version)
        return _Judged(model, None)

    def _is_default(self, judged: _Judged) -> bool:
        policy = self._policies.read(judged.model)
        return policy.default_of(versions_in(self._models / judged.model)) == judged.version

    def _edit(self, model: str, change: Change, action: str, undo: contextlib.ExitStack) -> None:
        before = self._policies.read(model)
        self._policies.edit(model, change, actor="training", action=action)
        undo.callback(self._policies.edit, model, lambda _: before, actor="training", action=f"undo: {action}")

    def _describe(self, judged: _Judged) -> str:
        label, serving = f"{judged.model}/{judged.version}", f"{judged.model}/{judged.serving}"
        if not judged.serving:
            return f"{label} is the only version of {judged.model}, so it is the default."
        why = judged.comparison
        if judged.is_worse:
            why = f"it is worse beyond the 95 % intervals: {why}"
        if judged.is_default:
            return f"{label} is the default in place of {serving}: {why}"
        if not self._holds:
            return f"{label} is published, but the serving policy of {judged.model} keeps {serving}: {why}"
        if not judged.is_worse and not self._candidate:
            why = f"it was published with a version that is worse: {why}"
        return f"{label} is published as `{CANDIDATE}`, and {serving} stays the default: {why}"


def _keep(policy: Policy, serving: str) -> Policy:
    # The alias of the candidate is about to move.
    if policy.default not in (LATEST, CANDIDATE):
        return policy
    aliases = (alias for alias, version in policy.aliases.items() if version == serving and alias != CANDIDATE)
    return policy.model_copy(update={"default": next(aliases, serving)})


def _make_candidate(policy: Policy, version: str) -> Policy:
    # Trials of the former candidate go on with that version.
    former = {"version": policy.aliases.get(CANDIDATE)}
    moved = {name: each.model_copy(update=former) for name, each in trials(policy).items() if each.version == CANDIDATE}
    return set_alias(policy.model_copy(update=moved), CANDIDATE, version)
