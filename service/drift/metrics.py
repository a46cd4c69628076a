"""Metrics of drift, made from reports."""

from collections.abc import Iterator, Mapping
from typing import Any

from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily

_VERSION = ("model", "version")


def drift_families(reports: Mapping[tuple[str, str], Mapping[str, Any]]) -> Iterator[Metric]:
    """The metrics of drift.

    Args:
        reports: of `service.drift.report`, by model and version.
    """
    items = GaugeMetricFamily(
        "quartet_drift_items", "Items in the window that is compared with the validation split", labels=_VERSION
    )
    distances = GaugeMetricFamily(
        "quartet_drift_distance",
        "Distance of a statistic of inputs or answers from the validation split; from 1,000 items on",
        labels=(*_VERSION, "part", "feature"),
    )
    drifted = GaugeMetricFamily(
        "quartet_drifted_features",
        "Statistics of inputs and answers whose distance has reached its threshold; from 1,000 items on",
        labels=_VERSION,
    )
    accuracy = GaugeMetricFamily(
        "quartet_estimated_accuracy",
        "Accuracy that calibrated probabilities promise, without labels; from 1,000 items on",
        labels=_VERSION,
    )
    for key, report in reports.items():
        items.add_metric(key, report["items"])
        if report["drifted"] is None:
            continue
        drifted.add_metric(key, len(report["drifted"]))
        for feature in report["features"]:
            distances.add_metric((*key, feature["part"], feature["name"]), feature["distance"])
        if report["accuracy"] is not None:
            accuracy.add_metric(key, report["accuracy"]["estimate"])
    yield from (items, distances, drifted, accuracy)
