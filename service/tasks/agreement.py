"""Whether the answers of two versions agree: the checks and the measures that tasks share."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from service.errors import InvalidRequest
from service.inference.cards import ManifestBase
from service.tasks.base import Comparison, Measure, Outcome, Row, Task
from service.tasks.familiarity import FamiliarManifest


class Incomparable(InvalidRequest):
    """Two versions whose answers to the same input cannot be compared."""


def measure_between(task: Task, default: ManifestBase, candidate: ManifestBase) -> Measure:
    """How the answers of two versions of a model are compared.

    Args:
        task: of the default version.
        default: the manifest of the version that answers.
        candidate: that of the version which gets the items that were prepared for the default.

    Raises:
        Incomparable: the candidate does not take these items, or its answers are of another kind.
    """
    if default.task != candidate.task:
        raise Incomparable(f"A version for the task {candidate.task!r} cannot be compared with one for {task.name!r}.")
    if task.agreement is None:
        raise Incomparable(f"Answers of the task {task.name!r} cannot be compared: it has no measure of agreement.")
    ours, theirs = ([(spec.dtype, spec.shape) for spec in manifest.inputs] for manifest in (default, candidate))
    if ours != theirs:
        raise Incomparable(
            f"The versions cannot be compared: the default takes {_tensors(ours)}, the candidate {_tensors(theirs)}."
        )
    return task.agreement.between(default, candidate)


def check_comparable(task: Task, default: ManifestBase, candidate: ManifestBase) -> None:
    """Raises `Incomparable` unless the answers of two versions can be compared; see `measure_between`."""
    measure_between(task, default, candidate)


def _tensors(specs: Sequence[tuple[str, tuple[int, ...]]]) -> str:
    return ", ".join(f"{dtype} {shape[1:]}" for dtype, shape in specs).replace("-1", "any")


def require_equal(what: str, default: object, candidate: object) -> None:
    """Raises `Incomparable` unless two versions have the same of something that inputs or answers depend on."""
    if default != candidate:
        raise Incomparable(f"The versions cannot be compared: their {what} differ.")


def p_value(manifest: FamiliarManifest, row: Row) -> float | None:
    """The output `unfamiliar` of a row; None if the graph has none."""
    return float(row[-1]) if manifest.familiarity else None


def same_label(default: Sequence[str], candidate: Sequence[str]) -> Measure:
    """Compares probabilities by the names of the labels, which may be others or in another order.

    Raises:
        Incomparable: there is no label that both have.
    """
    names = list(dict.fromkeys((*default, *candidate)))
    if len(names) == len(default) + len(candidate):
        raise Incomparable("The versions cannot be compared: they have no label in common.")
    # A label that a version does not have gets the 0 at the end of its probabilities.
    columns = [[labels.index(name) if name in labels else -1 for name in names] for labels in (default, candidate)]
    same = tuple(default) == tuple(candidate)

    def compare(ours: Row, theirs: Row) -> Comparison:
        p, q = ours[0], theirs[0]
        label = default[int(p.argmax())]
        agrees = label == candidate[int(q.argmax())]
        if not same:
            p, q = (np.append(row, 0.0)[order] for row, order in zip((p, q), columns, strict=True))
        return Comparison(agrees, float(np.abs(p - q).max()), label)

    return Measure(
        "the same most likely label; the difference is the largest absolute difference of a probability", compare
    )


def label_outcome(manifest: Any, row: Row) -> Outcome:
    """The most likely label of a row of probabilities."""
    return Outcome(manifest.labels[int(row[0].argmax())], p_value(manifest, row))


def unlabelled_outcome(manifest: Any, row: Row) -> Outcome:
    """The p-value of a row whose answer is no label."""
    return Outcome(None, p_value(manifest, row))


def root_mean_square(difference: npt.NDArray[Any]) -> float:
    """The root of the mean square of an array."""
    return float(np.sqrt(np.mean(np.square(difference, dtype=np.float64))))
