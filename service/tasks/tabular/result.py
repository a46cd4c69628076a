"""The result for a row of a table."""

from typing import Any

from service.tasks.familiarity import with_familiarity
from service.tasks.labels import top
from service.tasks.tabular.manifest import TabularManifest
from service.tasks.tabular.rows import Floats


def describe(
    manifest: TabularManifest, row: Floats, outputs: tuple[Any, ...], top_k: int = 5, level: float | None = None
) -> dict[str, Any]:
    """The result for a row, as `RowPrediction` has it.

    Args:
        manifest: of the version that answered.
        row: the input.
        outputs: of the graph.
        top_k: the most labels.
        level: of `strict_level`.
    """
    output, *more = outputs
    if manifest.kind == "classification":
        result: dict[str, Any] = {"labels": top(output, manifest.labels, top_k)}
    else:
        result = {"value": float(f"{output[0]:.7g}")}
    if unknown := manifest.reading.unknown(row):
        result["unknown"] = unknown
    return with_familiarity(result, more, level, labels=[], value=None)
