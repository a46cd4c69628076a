"""Whether two versions of plain tensors agree: every value is the same, within the default's tolerance."""

from typing import Any

import numpy as np

from service.inference.golden import compare as compare_outputs
from service.tasks.agreement import require_equal
from service.tasks.base import Agreement, Comparison, Measure, Outcome, Row
from service.tasks.tensors.manifest import TensorsManifest

# Values of each output that an example shows.
_MOST_SHOWN = 100


def between(default: TensorsManifest, candidate: TensorsManifest) -> Measure:
    """See `service.tasks.base.Agreement`. Both versions have the same inputs and outputs."""
    require_equal("inputs", default.inputs, candidate.inputs)
    require_equal("outputs", default.outputs, candidate.outputs)
    names = [spec.name for spec in default.outputs]

    def compare(ours: Row, theirs: Row) -> Comparison:
        want, got = ({name: np.asarray(row) for name, row in zip(names, each, strict=True)} for each in (ours, theirs))
        try:
            worst = compare_outputs(want, got, default.golden)
        except ValueError:  # other shapes
            return Comparison(False, np.inf)
        return Comparison(worst.acceptable, worst.value)

    return Measure(
        "every value is within the tolerance of the default's golden file; the difference is the largest absolute one",
        compare,
    )


def outcome(_manifest: TensorsManifest, _row: Row) -> Outcome:
    """See `service.tasks.base.Agreement`."""
    return Outcome()


def result(manifest: TensorsManifest, _item: Any, row: Row) -> dict[str, Any]:
    """See `service.tasks.base.Agreement`."""
    return {
        "outputs": [
            {"name": spec.name, "shape": list(np.shape(array)), "data": np.ravel(array)[:_MOST_SHOWN].tolist()}
            for spec, array in zip(manifest.outputs, row, strict=True)
        ]
    }


AGREEMENT = Agreement(between, outcome, result)
