"""Whether two versions of an image classifier agree: the same most likely label."""

from typing import Any

from service.tasks.agreement import label_outcome, same_label
from service.tasks.base import Agreement, Measure, Row
from service.tasks.classification.manifest import ClassifierManifest
from service.tasks.labels import LabelOptions, labelling


def between(default: ClassifierManifest, candidate: ClassifierManifest) -> Measure:
    """See `service.tasks.base.Agreement`."""
    return same_label(default.labels, candidate.labels)


def result(manifest: ClassifierManifest, _item: Any, row: Row) -> dict[str, Any]:
    """See `service.tasks.base.Agreement`."""
    return {"name": None, **labelling(manifest, LabelOptions(model=manifest.name))(row)}


AGREEMENT = Agreement(between, label_outcome, result)
