"""Whether two versions of a text classifier agree: the same most likely label."""

from typing import Any

from service.tasks.agreement import Incomparable, label_outcome, require_equal, same_label
from service.tasks.base import Agreement, Measure, Row
from service.tasks.labels import LabelOptions, labelling
from service.tasks.text.manifest import TOKENIZER, TextManifest
from service.tasks.text.reading import UNKNOWN


def between(default: TextManifest, candidate: TextManifest) -> Measure:
    """See `service.tasks.base.Agreement`. Both must read the same words; items are token ids, not texts."""
    require_equal("tokenizers", default.files.get(TOKENIZER), candidate.files.get(TOKENIZER))
    if candidate.max_length < default.max_length:
        raise Incomparable(
            f"The versions cannot be compared: the candidate reads {candidate.max_length} words of a text, the default "
            f"{default.max_length}."
        )
    return same_label(default.labels, candidate.labels)


def result(manifest: TextManifest, ids: Any, row: Row) -> dict[str, Any]:
    """See `service.tasks.base.Agreement`."""
    described = labelling(manifest, LabelOptions(model=manifest.name))
    return described(row, tokens=len(ids), unknown=int((ids == UNKNOWN).sum()), cut_off=0)


AGREEMENT = Agreement(between, label_outcome, result)
