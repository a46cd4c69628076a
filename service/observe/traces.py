"""Whether requests are traced; OpenTelemetry is not imported unless they are."""

import os
from typing import TYPE_CHECKING

from quartet.extras import needs

if TYPE_CHECKING:
    from service.observe.tracing import Tracing

# Each of them says that there is an exporter.
_EXPORTERS = ("OTEL_TRACES_EXPORTER", "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")


def configured_tracing() -> "Tracing | None":
    """Traces as OpenTelemetry's environment variables configure them; None if they name no exporter.

    Raises:
        ValueError: the exporter is not offered.
    """
    disabled = os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true"
    if disabled or not any(os.environ.get(name) for name in _EXPORTERS):
        return None
    with needs("traces"):
        from service.observe.tracing import from_environment
    return from_environment()
