"""The options of the client and of its methods, as types."""

from collections.abc import Mapping, Sequence
from typing import Literal, TypedDict

import httpx

Invert = Literal["auto", "never", "always"]


class ClientOptions(TypedDict, total=False):
    """The options of a client."""

    timeout: float
    retry_for: float
    concurrency: int
    headers: Mapping[str, str] | None
    api_key: str | None
    transport: httpx.AsyncBaseTransport | None


class ModelOptions(TypedDict, total=False):
    """The options of every call of a model."""

    model: str | None
    progress: bool | None
    timeout: float | None


class PredictOptions(ModelOptions, total=False):
    """The options of `predict`."""

    top_k: int | None
    coverage: float | None
    strict: bool | None
    level: float | None


class DetectOptions(ModelOptions, total=False):
    """The options of `detect`."""

    confidence: float | None
    precision: float | None
    recall: float | None
    classes: Sequence[str] | None
    max_detections: int | None
    strict: bool | None
    level: float | None


class EncodeOptions(ModelOptions, total=False):
    """The options of `encode` and `reconstruct`."""

    invert: Invert | None


class TextOptions(PredictOptions, total=False):
    """The options of `classify_text`."""

    explain: bool | None


class RowOptions(ModelOptions, total=False):
    """The options of `predict_tabular`."""

    top_k: int | None
    strict: bool | None
    level: float | None


class GenerateOptions(TypedDict, total=False):
    """The options of `generate`."""

    label: str | int | None
    seed: int | None
    temperature: float | None
    model: str | None
    timeout: float | None
