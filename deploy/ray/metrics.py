"""The service's metrics among Ray's, so that all replicas are seen wherever a request would end up."""

from typing import Any

from prometheus_client import CollectorRegistry
from ray.util.metrics import Gauge


class Mirror:
    """Shows the samples of a registry as metrics of Ray, with the label `replica`.

    Counters and histograms keep their names, sums and buckets, so queries are the same but for the prefix `ray_` that
    Ray gives to all of its metrics.

    Args:
        replica: which one this is.
    """

    def __init__(self, replica: str) -> None:
        self._replica = replica
        self._gauges: dict[str, Any] = {}

    def update(self, registry: CollectorRegistry) -> None:
        """Shows what the registry has counted until now."""
        for metric in registry.collect():
            if not metric.name.startswith("quartet_"):
                continue
            for sample in metric.samples:
                if sample.name.endswith("_created"):
                    continue
                gauge = self._gauges.get(sample.name)
                if gauge is None:
                    keys = ("replica", *sample.labels)
                    gauge = self._gauges[sample.name] = Gauge(sample.name, metric.documentation, tag_keys=keys)
                gauge.set(sample.value, tags={"replica": self._replica, **sample.labels})
