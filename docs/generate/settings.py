"""The table of the settings."""

from docs.generate.tables import table, with_code
from service.settings import PREFIX, Settings, default_in_environment

# Where the manual says more about a setting.
_MORE = {
    "grpc_port": "protocol.md#grpc",
    "uds": "../guides/listen.md#unix-sockets",
    "metrics_port": "../guides/listen.md#a-port-for-metrics-and-probes",
    "metrics_host": "../guides/listen.md#a-port-for-metrics-and-probes",
    "tls_cert": "../guides/listen.md#tls",
    "tls_key": "../guides/listen.md#tls",
    "trusted_proxies": "../guides/listen.md#behind-a-proxy",
    "state": "../guides/versions.md#changing-the-policy",
    "captures": "../guides/captures.md",
    "keys": "../guides/keys.md",
    "open": "../guides/keys.md",
    "cors_origins": "api.md#calls-from-web-pages",
    "workers": "../guides/operate.md#several-processes",
    "variant": "../guides/operate.md#variants",
    "max_queue": "../explanation/architecture.md#the-queue",
    "max_wait": "../explanation/architecture.md#the-queue",
    "self_check": "../guides/operate.md#self-checks",
    "drain_seconds": "../guides/operate.md#signals",
    "log_format": "../guides/observe.md#log",
}


def in_markdown() -> str:
    """A row for each setting, in the order of the code."""
    rows = []
    for name, field in Settings.model_fields.items():
        variable = f"`{PREFIX}{name.upper()}`"
        more = f"[{variable}]({_MORE[name]})" if name in _MORE else variable
        rows.append((more, default_in_environment(field) or "–", with_code(field.description or "")))
    return table(("variable", "default", ""), rows)
