"""docker-compose.yml passes every setting on."""

import yaml

from service.settings import PREFIX, Settings
from tests.server import ROOT

COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
# Those that serve models.
SERVICES = {name: each for name, each in COMPOSE["services"].items() if name in ("cpu", "gpu")}
# Fixed in the image.
FIXED = {"host", "port", "metrics_host", "models", "state", "captures"}


def test_the_keys_are_a_secret():
    for service in SERVICES.values():
        (name,) = service["secrets"]
        assert COMPOSE["secrets"][name]["file"] == "${KEYS:-/dev/null}"
        (keys,) = (each for each in service["environment"] if each.startswith("QUARTET_KEYS="))
        assert keys == f"QUARTET_KEYS=${{KEYS:+/run/secrets/{name}}}"
    assert Settings(keys="").keys is None  # as it is without KEYS


def test_certificates_are_a_folder_which_follows_their_renewal():
    for service in SERVICES.values():
        assert "${TLS:-tls}:/srv/quartet/tls:ro" in service["volumes"]
        assert "tls" in COMPOSE["volumes"]
        for name in ("cert", "key"):
            assert f"QUARTET_TLS_{name.upper()}=${{TLS:+/srv/quartet/tls/{name}.pem}}" in service["environment"]
    assert Settings(tls_cert="", tls_key="").tls_cert is None  # as it is without TLS


# OpenTelemetry's variables that compose passes on.
TRACES = {"OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_TRACES_SAMPLER", "OTEL_TRACES_SAMPLER_ARG"}


def test_every_setting_reaches_the_service():
    for service in SERVICES.values():
        names = {each.partition("=")[0] for each in service["environment"]}
        own = {each.removeprefix(PREFIX).lower() for each in names if each.startswith(PREFIX)}
        assert own == Settings.model_fields.keys() - FIXED
        assert {each for each in names if not each.startswith(PREFIX)} == TRACES


def test_there_is_time_to_end():
    defaults = Settings()
    for service in SERVICES.values():
        grace = float(service["stop_grace_period"].removesuffix("s"))
        assert grace >= defaults.drain_seconds + defaults.shutdown_timeout + 10
