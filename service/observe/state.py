"""Metrics of the state of the service, as it is when they are asked for."""

import platform
from collections.abc import Iterator, Mapping
from typing import Any

import onnxruntime
from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily
from prometheus_client.registry import Collector

from quartet import __version__
from service.access.keys import KeyRing
from service.certificate import Certificate
from service.drift.metrics import drift_families
from service.inference import cuda
from service.inference.device import cuda_index
from service.inference.footprint import available_memory
from service.inference.repository import Repository

# The name, the help and the label of each gauge.
_MEMORY = (
    "quartet_memory_available_bytes",
    "Memory that the process can still take, by the machine and its limits",
    "",
)
_READY = ("quartet_model_ready", "1 if a version of the model can answer", "model")
_REFUSED = ("quartet_versions_refused", "Versions that the last load refused", "model")
_LOADED = ("quartet_last_load_timestamp_seconds", "When the models folder was last looked at without an error", "")
_GPU_MEMORY = ("quartet_gpu_memory_free_bytes", "Free memory of a GPU that runs models", "device")
_KEY_EXPIRY = (
    "quartet_key_expiry_timestamp_seconds",
    "When an API key ends, in seconds since the epoch; keys without an end are not listed",
    "key",
)
_CERTIFICATE_EXPIRY = (
    "quartet_tls_certificate_expiry_timestamp_seconds",
    "When the certificate that new connections get expires, in seconds since the epoch; only with TLS",
    "",
)


class State(Collector):
    """The state of a service; each process of several reports its own view, which is the same for all of them.

    Args:
        ring: the API keys; None without keys.
        certificate: None without TLS.
    """

    def __init__(self, ring: KeyRing | None, certificate: Certificate | None = None) -> None:
        self._ring = ring
        self._certificate = certificate
        self._models: list[Metric] = []
        self._devices: set[str] = set()

    def measure(self, repository: Repository, drifts: Mapping[tuple[str, str], Mapping[str, Any]]) -> None:
        """Notes the state of the models; called on the event loop, which changes it, while `collect` is on a thread.

        Args:
            repository: of the models.
            drifts: reports by model and version; see `service.drift.report`.
        """
        self._models = [*_models(repository), *drift_families(drifts)]
        self._devices = {version.device for version in repository.versions}

    def collect(self) -> Iterator[Metric]:
        """See `prometheus_client.registry.Collector`."""
        yield _info()
        if (available := available_memory()) is not None:
            yield _gauge(_MEMORY, {"": available})
        yield from self._models
        yield from _gpus(self._devices)
        if self._certificate is not None:
            yield _gauge(_CERTIFICATE_EXPIRY, {"": self._certificate.ends})
        if self._ring is not None:
            yield _gauge(_KEY_EXPIRY, self._ring.ends())

    def describe(self) -> Iterator[Metric]:
        """Every metric, with its labels and without values; some are collected only where there is something to say."""
        yield _info()
        for family in (_MEMORY, _READY, _REFUSED, _LOADED, _GPU_MEMORY, _CERTIFICATE_EXPIRY, _KEY_EXPIRY):
            yield _gauge(family, {})
        yield _loads_failed()
        yield from drift_families({})


def _info() -> Metric:
    info = InfoMetricFamily("quartet_build", "Versions of Quartet and of what it runs on")
    versions = {"version": __version__, "python": platform.python_version(), "onnxruntime": onnxruntime.__version__}
    info.add_metric([], versions)
    return info


def _models(repository: Repository) -> Iterator[Metric]:
    ready = {name: 1.0 for name, served in repository.served.items() if served.default is not None}
    ready |= dict.fromkeys(repository.unready, 0.0)
    yield _gauge(_READY, ready)
    refused = dict.fromkeys(repository.served, 0.0)
    for label in repository.refused:
        name = label.partition("/")[0]
        refused[name] = refused.get(name, 0.0) + 1
    yield _gauge(_REFUSED, refused)
    yield _gauge(_LOADED, {"": repository.loaded_at})
    failed = _loads_failed()
    failed.add_metric([], repository.loads_failed)
    yield failed


def _loads_failed() -> CounterMetricFamily:
    return CounterMetricFamily("quartet_loads_failed", "Looks at the models folder that ended with an error")


def _gpus(devices: set[str]) -> Iterator[Metric]:
    free = {
        device: float(found)
        for device in sorted(devices - {"cpu"})
        if (found := cuda.free_memory(cuda_index(device))) is not None
    }
    if free:
        yield _gauge(_GPU_MEMORY, free)


def _gauge(family: tuple[str, str, str], values: Mapping[str, float]) -> Metric:
    """A gauge with a value for each value of its label; one without a label has at most one value."""
    name, text, label = family
    gauge = GaugeMetricFamily(name, text, labels=[label] if label else [])
    for value, number in values.items():
        gauge.add_metric([value] if label else [], number)
    return gauge
