"""The settings of the service, from QUARTET_* environment variables; an unknown variable is an error."""

import difflib
import ipaddress
import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, ValidationError, field_validator, model_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from service.inference.device import Device
from service.inference.variants import Selection

PREFIX = "QUARTET_"
# As a browser states it: without a path, not even a slash.
Origin = Annotated[str, Field(pattern=r"^(\*|https?://[^/\s*]+)$")]


def _check_proxy(proxy: str) -> str:
    if proxy != "unix":
        ipaddress.ip_network(proxy)
    return proxy


Proxy = Annotated[str, AfterValidator(_check_proxy)]
# Names that earlier versions had, and what has become of them: `is now QUARTET_…`, or why there is no such setting.
_FORMER = {
    f"{PREFIX}TUNING": "is no longer a setting: the server measures each graph when it starts. Unset it.",
}
# Variables of the client and of commands that talk to a server.
_OF_CLIENTS = {f"{PREFIX}API_KEY", f"{PREFIX}URL", f"{PREFIX}SERVER"}


class InvalidSettings(Exception):
    """A QUARTET_* variable is unknown or invalid."""


class Settings(BaseSettings):
    """The service's settings; each is read from QUARTET_<NAME>."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, allow_inf_nan=False)

    host: str = Field("127.0.0.1", description="address to listen on; the images set 0.0.0.0")
    port: int = Field(8000, ge=0, le=65535, description="port to listen on; 0 picks a free one and logs it")
    grpc_port: int | None = Field(
        None,
        ge=0,
        le=65535,
        description="port of the Open Inference Protocol over gRPC; 0 picks a free one; unset: without it",
    )
    uds: Path | None = Field(
        None, description="path of a Unix socket to listen on instead of QUARTET_HOST and QUARTET_PORT"
    )
    metrics_port: int | None = Field(
        None,
        ge=0,
        le=65535,
        description="port of its own for `/metrics` and the probes, over plain HTTP and without keys; the other port "
        "then has no `/metrics`; 0 picks a free one; unset: one port for all",
    )
    metrics_host: str = Field("127.0.0.1", description="address of QUARTET_METRICS_PORT; the images set 0.0.0.0")
    tls_cert: Path | None = Field(
        None,
        description="PEM file of the certificate, followed by those between it and its root; with it the service "
        "answers over HTTPS alone, and gRPC over TLS",
    )
    tls_key: Path | None = Field(None, description="PEM file of the certificate's private key, without a passphrase")
    trusted_proxies: Annotated[tuple[Proxy, ...], NoDecode] = Field(
        (),
        description="proxies whose `X-Forwarded-For` and `X-Forwarded-Proto` count: addresses and networks, with "
        "commas between, and `unix` for those that come over QUARTET_UDS",
    )
    models: Path = Field(Path("models"), description="folder that contains `NAME/VERSION/` of each version")
    state: Path | None = Field(
        None, description="writable folder for the policies of the models; unset: QUARTET_MODELS"
    )
    captures: Path = Field(
        Path("captures"),
        description="writable folder on a local disk for the inputs and answers that `[capture]` in a model's policy "
        "keeps, and for feedback",
    )
    watch: float = Field(0, ge=0, description="seconds between looks for new versions and policies; 0: on SIGUSR1 only")
    keys: Path | None = Field(None, description="file of the API keys, which `quartet keys add NAME` writes")
    open: bool = Field(False, description="1: everyone who reaches the service may use its models without a key")
    cors_origins: Annotated[tuple[Origin, ...], NoDecode] = Field(
        (), description="origins whose web pages may call the API, with commas between, or `*`"
    )
    workers: int = Field(1, ge=1, le=256, description="processes that share the port, the cores and the memory")
    device: Device = Field(
        "auto",
        description="`cpu`; `cuda`, or `cuda:1` for the second of several GPUs in the order of CUDA_DEVICE_ORDER, "
        "which fails rather than fall back; `auto`, which falls back to the CPU and says why",
    )
    variant: str = Field(
        "auto",
        description="which graph of a model answers: `auto` (the fastest that is good here), `reference` or a "
        "variant's name; for single models MODEL=VARIANT, with commas between",
    )
    threads: int = Field(
        0, ge=0, description="CPU threads, shared by all models; 0: one for each CPU that the process may use"
    )
    gpu_memory_mb: float = Field(
        0,
        ge=0,
        description="maximum size of a session's arena on a GPU, in MB; a model has a session for each of its batch "
        "sizes; 0: no limit",
    )
    max_batch: int = Field(64, ge=1, description="maximum number of items in a batch; a manifest may state a lower one")
    max_queue: int = Field(
        16_384,
        ge=1,
        description="maximum number of items admitted to a model, at least twice QUARTET_MAX_BATCH; beyond it requests "
        "are answered 429",
    )
    max_items: int = Field(10_000, ge=1, description="maximum number of items in a request")
    max_body_mb: float = Field(64, gt=0, description="maximum size of a request body, in MB")
    max_memory_mb: float = Field(
        192,
        gt=0,
        description="maximum size of all request bodies in memory together, in MB, at least QUARTET_MAX_BODY_MB; "
        "beyond it requests are answered 429",
    )
    max_connections: int = Field(
        1000,
        ge=1,
        description="maximum number of connections; beyond it idle ones are closed, and new ones refused (503) if none "
        "is idle",
    )
    max_pixels: int = Field(
        50_000_000, ge=1, description="maximum number of pixels of an image, by its header, before it is decoded"
    )
    max_wait: float = Field(
        5, gt=0, description="seconds that a request may wait for a model; one that would wait longer is answered 429"
    )
    timeout: float = Field(
        30,
        gt=0,
        description="seconds without progress after which a request is answered 504; a request of several batches "
        "makes progress with each",
    )
    self_check: float = Field(
        60,
        ge=0,
        description="seconds in which golden inputs of each loaded version are run again and their answers compared; "
        "0: never",
    )
    drain_seconds: float = Field(
        0,
        ge=0,
        description="seconds after SIGTERM in which requests are still answered; behind a load balancer, how long it "
        "takes to notice",
    )
    shutdown_timeout: int = Field(
        30, ge=1, description="seconds that accepted requests have to finish after SIGTERM and the drain"
    )
    log_format: Literal["auto", "text", "json"] = Field(
        "auto", description="`text`, `json` (an object per line), or `auto`: text on a terminal, JSON elsewhere"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="`debug`, `info`, `warning` or `error`; the last two turn off the line per request"
    )

    @field_validator("variant")
    @classmethod
    def _check_variant(cls, variant: str) -> str:
        Selection.parse(variant)
        return variant

    @field_validator("keys", "grpc_port", "uds", "metrics_port", "tls_cert", "tls_key", mode="before")
    @classmethod
    def _empty_is_none(cls, value: Any) -> Any:
        return None if value == "" else value  # as a compose file passes on what is not set

    @field_validator("cors_origins", "trusted_proxies", mode="before")
    @classmethod
    def _split(cls, values: Any) -> Any:
        return tuple(each.strip() for each in values.split(",") if each.strip()) if isinstance(values, str) else values

    @model_validator(mode="after")
    def _check_access(self) -> Self:
        if self.keys and self.open:
            raise ValueError(f"{PREFIX}OPEN=1 and {PREFIX}KEYS={self.keys} exclude each other: unset one")
        return self

    @model_validator(mode="after")
    def _check_listeners(self) -> Self:
        if bool(self.tls_cert) != bool(self.tls_key):
            given, other = ("CERT", "KEY") if self.tls_cert else ("KEY", "CERT")
            raise ValueError(f"{PREFIX}TLS_{given} needs {PREFIX}TLS_{other}: a certificate and its private key")
        if self.tls_cert and self.uds:
            why = "a Unix socket does not leave the machine"
            raise ValueError(f"{PREFIX}TLS_CERT and {PREFIX}UDS exclude each other: {why}")
        named = {f"{PREFIX}GRPC_PORT": self.grpc_port} | ({} if self.uds else {f"{PREFIX}PORT": self.port})
        for name, port in named.items():
            if port and port == self.metrics_port:
                raise ValueError(f"{PREFIX}METRICS_PORT={port} is {name} too: choose another port")
        return self

    @model_validator(mode="after")
    def _check_room_for_a_request(self) -> Self:
        # A request has up to two batches in flight. With less room it would be refused at every attempt.
        if self.max_queue < 2 * self.max_batch:
            needed = f"must be at least twice {PREFIX}MAX_BATCH ({self.max_batch})"
            raise ValueError(f"{PREFIX}MAX_QUEUE={self.max_queue}: {needed}")
        if self.max_memory_mb < self.max_body_mb:
            needed = f"must hold at least one request's body ({PREFIX}MAX_BODY_MB={self.max_body_mb:g})"
            raise ValueError(f"{PREFIX}MAX_MEMORY_MB={self.max_memory_mb:g}: {needed}")
        return self


def default_in_environment(field: FieldInfo) -> str:
    """The default of a setting as its variable would say it; empty if it is unset."""
    return "" if field.default in (None, ()) else str(int(field.default) if field.default is False else field.default)


def read_settings(**overrides: Any) -> Settings:
    """Reads the settings from the environment, over which `overrides` take precedence if they are not None.

    Raises:
        InvalidSettings: a variable is unknown or invalid; one line names it and what it may be.
    """
    known = {PREFIX + name.upper(): field for name, field in Settings.model_fields.items()}
    for variable, value in os.environ.items():
        if _is_service_link(variable, value):
            raise InvalidSettings(
                f"{variable}={value} was set by Kubernetes for a Service called quartet: put "
                "enableServiceLinks: false into the pod's spec, or call the Service otherwise."
            )
        if fate := _FORMER.get(variable.upper()):
            raise InvalidSettings(f"{variable} {fate}")
        if variable.upper().startswith(PREFIX) and variable.upper() not in known.keys() | _OF_CLIENTS:
            names = {name.removeprefix(PREFIX).casefold(): name for name in known}
            near = difflib.get_close_matches(variable[len(PREFIX) :].casefold(), names, n=1, cutoff=0.75)
            hint = f"did you mean {names[near[0]]}?" if near else f"there are {', '.join(known)}."
            raise InvalidSettings(f"{variable} is not a setting: {hint}")
    try:
        return Settings(**{name: value for name, value in overrides.items() if value is not None})
    except ValidationError as error:
        first = error.errors()[0]
        problem = first["msg"].removeprefix("Value error, ")
        if not first["loc"]:
            raise InvalidSettings(f"{problem}.") from None
        variable = PREFIX + str(first["loc"][0]).upper()
        raise InvalidSettings(f"{variable}={first['input']}: {problem} ({known[variable].description}).") from None


def _is_service_link(variable: str, value: str) -> bool:
    """Whether Kubernetes has set a variable to tell the pod the address of a Service."""
    links = re.fullmatch(PREFIX + r"(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_\w+)?)", variable)
    return bool(links) or (re.fullmatch(PREFIX + r"(\w+_)?PORT", variable) is not None and "://" in value)
