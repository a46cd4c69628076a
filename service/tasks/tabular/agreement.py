"""Whether two versions of a tabular model agree: the same most likely label, or numbers that are close."""

from typing import Any

import numpy as np

from service.tasks.agreement import Incomparable, label_outcome, require_equal, same_label, unlabelled_outcome
from service.tasks.base import Agreement, Comparison, Measure, Outcome, Row
from service.tasks.tabular.manifest import TabularManifest
from service.tasks.tabular.result import describe


def between(default: TabularManifest, candidate: TabularManifest) -> Measure:
    """See `service.tasks.base.Agreement`.

    Two numbers agree if they are no further apart than the default's predictions typically are from the truth, the
    root mean squared error of its test split. Their difference is relative to the standard deviation of the target
    there.
    """
    require_equal("targets", (default.target, default.kind), (candidate.target, candidate.kind))
    require_equal("columns", _columns(default), _columns(candidate))
    if default.kind == "classification":
        return same_label(default.labels, candidate.labels)
    error, r2 = default.metrics.rmse, default.metrics.r2
    if error is None or r2 is None:
        raise Incomparable("The versions cannot be compared: the default's manifest states no rmse and r2.")
    accepted = max(error, default.golden.atol)
    # R² is 1 - rmse² / variance.
    spread = accepted / np.sqrt(1 - r2) if r2 < 1 else accepted

    def compare(ours: Row, theirs: Row) -> Comparison:
        distance = abs(float(ours[0][0]) - float(theirs[0][0]))
        return Comparison(distance <= accepted, distance / spread)

    return Measure(
        f"numbers no further apart than the default's root mean squared error, {accepted:.4g}; the difference is "
        f"relative to the target's standard deviation, {spread:.4g}",
        compare,
    )


def outcome(manifest: TabularManifest, row: Row) -> Outcome:
    """See `service.tasks.base.Agreement`."""
    return (label_outcome if manifest.kind == "classification" else unlabelled_outcome)(manifest, row)


def result(manifest: TabularManifest, item: Any, row: Row) -> dict[str, Any]:
    """See `service.tasks.base.Agreement`."""
    return describe(manifest, item, row)


def _columns(manifest: TabularManifest) -> list[object]:
    """What the numbers of a row depend on."""
    return [(card.name, card.kind, card.values, card.origin) for card in manifest.columns]


AGREEMENT = Agreement(between, outcome, result)
