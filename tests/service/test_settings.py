"""Settings come from QUARTET_ variables; errors name the unknown or invalid variable."""

import os
import re
from pathlib import Path

import pytest

from service.settings import _FORMER, InvalidSettings, Settings, read_settings


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.upper().startswith("QUARTET_"):
            monkeypatch.delenv(name)


def test_defaults():
    settings = read_settings()
    assert (settings.host, settings.port, settings.models) == ("127.0.0.1", 8000, Path("models"))
    assert settings.device == "auto"


def test_variables_are_read(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("QUARTET_PORT", "0")
    monkeypatch.setenv("QUARTET_MODELS", "/srv/models")
    monkeypatch.setenv("quartet_max_body_mb", "0.5")
    settings = read_settings()
    assert (settings.port, settings.models, settings.max_body_mb) == (0, Path("/srv/models"), 0.5)


@pytest.mark.parametrize(
    ("value", "origins"),
    [
        ("*", ("*",)),
        ("", ()),
        ("https://a.example, http://localhost:3000", ("https://a.example", "http://localhost:3000")),
    ],
)
def test_origins_are_separated_by_commas(monkeypatch: pytest.MonkeyPatch, value: str, origins: tuple[str, ...]):
    monkeypatch.setenv("QUARTET_CORS_ORIGINS", value)
    assert read_settings().cors_origins == origins


def test_settings_do_not_change():
    with pytest.raises(ValueError, match="frozen"):
        read_settings().port = 1  # type: ignore[misc]


@pytest.mark.parametrize(("name", "hint"), [("QUARTET_PROT", "QUARTET_PORT"), ("quartet_devise", "QUARTET_DEVICE")])
def test_a_misspelt_variable_is_refused_with_a_suggestion(monkeypatch: pytest.MonkeyPatch, name: str, hint: str):
    monkeypatch.setenv(name, "1")
    with pytest.raises(InvalidSettings, match=rf"^{name} is not a setting: did you mean {hint}\?$"):
        read_settings()


def test_a_setting_that_is_gone_is_refused_with_the_reason(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("QUARTET_TUNING", "tuning.json")
    with pytest.raises(InvalidSettings, match=r"^QUARTET_TUNING is no longer a setting: .* Unset it\.$"):
        read_settings()


def test_a_renamed_setting_is_refused_with_its_new_name(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(_FORMER, "QUARTET_QUEUE", "is now QUARTET_MAX_QUEUE")
    monkeypatch.setenv("quartet_queue", "100")
    with pytest.raises(InvalidSettings, match=r"^quartet_queue is now QUARTET_MAX_QUEUE$"):
        read_settings()


def test_former_names_are_no_settings():
    for name, fate in _FORMER.items():
        assert name.removeprefix("QUARTET_").lower() not in Settings.model_fields
        if renamed := re.match(r"is now QUARTET_(\w+)", fate):
            assert renamed[1].lower() in Settings.model_fields


@pytest.mark.parametrize("name", ["QUARTET_URL", "QUARTET_SERVER", "QUARTET_API_KEY"])
def test_variables_of_the_client_are_no_mistake(monkeypatch: pytest.MonkeyPatch, name: str):
    monkeypatch.setenv(name, "x")
    assert read_settings().port == 8000


def test_an_unknown_variable_is_refused_with_the_list(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("QUARTET_ZZZZZZZZZZZZZZZZ", "1")
    with pytest.raises(InvalidSettings) as refusal:
        read_settings()
    for name in Settings.model_fields:
        assert f"QUARTET_{name.upper()}" in str(refusal.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "-1"),
        ("PORT", "65536"),
        ("PORT", ""),
        ("CORS_ORIGINS", "example.org"),
        ("CORS_ORIGINS", "https://example.org/"),
        ("DEVICE", "tpu"),
        ("VARIANT", "int8,"),
        ("THREADS", "1.5"),
        ("MAX_BATCH", "0"),
        ("MAX_QUEUE", "many"),
        ("MAX_BODY_MB", "0"),
        ("MAX_BODY_MB", "nan"),
        ("MAX_BODY_MB", "inf"),
        ("TIMEOUT", "-3"),
        ("METRICS_PORT", "65536"),
        ("LOG_LEVEL", "loud"),
    ],
)
def test_an_unusable_value_is_named_with_what_it_is_for(monkeypatch: pytest.MonkeyPatch, name: str, value: str):
    monkeypatch.setenv(f"QUARTET_{name}", value)
    with pytest.raises(InvalidSettings) as refusal:
        read_settings()
    message = str(refusal.value)
    assert message.startswith(f"QUARTET_{name}={value}: ")
    assert str(Settings.model_fields[name.lower()].description) in message
    assert "\n" not in message


def test_a_queue_that_has_no_room_for_a_request_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("QUARTET_MAX_QUEUE", "100")
    with pytest.raises(
        InvalidSettings, match=r"^QUARTET_MAX_QUEUE=100: must be at least twice QUARTET_MAX_BATCH \(64\)"
    ):
        read_settings()


def test_what_the_client_reads_is_no_mistake(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("QUARTET_API_KEY", "k")
    monkeypatch.setenv("QUARTET_KEYS", "")
    assert read_settings().keys is None


def test_keys_and_an_open_service_exclude_each_other(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("QUARTET_KEYS", "keys.toml")
    monkeypatch.setenv("QUARTET_OPEN", "1")
    with pytest.raises(InvalidSettings, match=r"^QUARTET_OPEN=1 and QUARTET_KEYS=keys.toml exclude each other"):
        read_settings()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("QUARTET_SERVICE_HOST", "10.0.0.7"),
        ("QUARTET_SERVICE_PORT_HTTP", "80"),
        ("QUARTET_PORT", "tcp://10.0.0.7:80"),
        ("QUARTET_PORT_80_TCP_ADDR", "10.0.0.7"),
        ("QUARTET_GPU_SERVICE_PORT", "80"),
        ("QUARTET_METRICS_PORT", "tcp://10.0.0.7:9100"),
    ],
)
def test_variables_that_kubernetes_sets_for_a_service_of_this_name_are_explained(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
):
    monkeypatch.setenv(name, value)
    with pytest.raises(InvalidSettings, match=rf"^{name}={value} .*enableServiceLinks: false"):
        read_settings()


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"TLS_CERT": "a.pem"}, "QUARTET_TLS_CERT needs QUARTET_TLS_KEY"),
        ({"TLS_KEY": "a.pem"}, "QUARTET_TLS_KEY needs QUARTET_TLS_CERT"),
        ({"TLS_CERT": "a.pem", "TLS_KEY": "a.pem", "UDS": "/q"}, "QUARTET_TLS_CERT and QUARTET_UDS exclude each other"),
        ({"METRICS_PORT": "8000"}, "QUARTET_METRICS_PORT=8000 is QUARTET_PORT too"),
        ({"METRICS_PORT": "9000", "GRPC_PORT": "9000"}, "QUARTET_METRICS_PORT=9000 is QUARTET_GRPC_PORT too"),
    ],
)
def test_addresses_that_contradict_each_other(monkeypatch: pytest.MonkeyPatch, settings: dict[str, str], why: str):
    for name, value in settings.items():
        monkeypatch.setenv(f"QUARTET_{name}", value)
    with pytest.raises(InvalidSettings, match=f"^{why}"):
        read_settings()


def test_free_ports_may_be_picked_for_all(monkeypatch: pytest.MonkeyPatch):
    for name in ("PORT", "GRPC_PORT", "METRICS_PORT"):
        monkeypatch.setenv(f"QUARTET_{name}", "0")
    assert read_settings().metrics_port == 0


def test_empty_variables_are_unset(monkeypatch: pytest.MonkeyPatch):
    names = ("UDS", "METRICS_PORT", "TLS_CERT", "TLS_KEY", "TRUSTED_PROXIES")
    for name in names:
        monkeypatch.setenv(f"QUARTET_{name}", "")
    settings = read_settings()
    assert {name: getattr(settings, name.lower()) for name in names} == {**dict.fromkeys(names), "TRUSTED_PROXIES": ()}


def test_proxies_are_addresses_and_networks(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("QUARTET_TRUSTED_PROXIES", "10.0.0.0/8, 192.0.2.7, 2001:db8::/32, unix")
    assert read_settings().trusted_proxies == ("10.0.0.0/8", "192.0.2.7", "2001:db8::/32", "unix")


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("*", "does not appear to be an IPv4 or IPv6 network"),
        ("proxy.example", "does not appear to be an IPv4 or IPv6 network"),
        ("10.0.0.1/8", "has host bits set"),
    ],
)
def test_anything_else_is_no_proxy(monkeypatch: pytest.MonkeyPatch, value: str, why: str):
    monkeypatch.setenv("QUARTET_TRUSTED_PROXIES", f"unix, {value}")
    with pytest.raises(InvalidSettings, match=rf"^QUARTET_TRUSTED_PROXIES={re.escape(value)}: .*{why}"):
        read_settings()
