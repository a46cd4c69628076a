"""Which items of a call are kept: the strategies of a policy, as functions of an answer."""

import random
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from service.inference.cards import ManifestBase
from service.policy.capture import Capture, Confidence, Detections, Labels, Untypical

Wants = Callable[[Mapping[str, Any]], bool]


class Chooser:
    """The strategies of a model's policy.

    Attributes:
        policy: that they are from.
        on_disagreement: whether items are kept on which the shadow disagrees.
    """

    def __init__(self, policy: Capture) -> None:
        self.policy = policy
        self.on_disagreement = policy.disagreement is not None
        rules = policy.strategies.items()
        self._rules = [(name, _MAKERS[name](strategy)) for name, strategy in rules if name in _MAKERS]
        self._closed: dict[str, float] = {}

    def choose(self, answer: Mapping[str, Any]) -> str | None:
        """The strategy that keeps an item, given its answer; None if none does."""
        for name, wants in self._rules:
            if wants(answer) and self.is_open(name):
                return name
        return None

    def is_open(self, strategy: str) -> bool:
        """Whether a strategy has not reached its limits."""
        return time.time() >= self._closed.get(strategy, 0.0)

    def close(self, strategy: str, until: float) -> None:
        """Notes that a strategy keeps nothing before a Unix time; safe on any thread."""
        self._closed[strategy] = until


def never_match(policy: Capture, manifest: ManifestBase) -> list[str]:
    """The strategies of a policy that want nothing of a model, with the reasons."""
    labels: Sequence[str] = getattr(manifest, "labels", ())
    lacks = {
        "untypical": None if getattr(manifest, "familiarity", None) else "its answers have no p-values",
        "confidence": None if labels else "its answers have no labels",
        "labels": None if labels else "its answers have no labels",
        "detections": None if manifest.task == "detection" else "its answers have no boxes",
    }
    found = [f"{name}: {why}" for name, why in lacks.items() if why and name in policy.strategies]
    if policy.labels and labels:
        unknown = [label for label in policy.labels.any if label not in labels]
        found += [f"labels: it has no label {label!r}" for label in unknown]
    return found


def _random(strategy: Any) -> Wants:
    share = strategy.share
    return lambda _: random.random() < share  # noqa: S311 - no secret


def _untypical(strategy: Untypical) -> Wants:
    level = strategy.below

    def wants(answer: Mapping[str, Any]) -> bool:
        p_value = answer.get("typicality")
        return p_value is not None and p_value < level

    return wants


def _confidence(strategy: Confidence) -> Wants:
    low, high = strategy.near - strategy.within, strategy.near + strategy.within

    def wants(answer: Mapping[str, Any]) -> bool:
        if labels := answer.get("labels"):
            return bool(low <= labels[0]["probability"] <= high)
        return any(low <= box["score"] <= high for box in answer.get("boxes", ()))

    return wants


def _labels(strategy: Labels) -> Wants:
    chosen = frozenset(strategy.any)

    def wants(answer: Mapping[str, Any]) -> bool:
        if labels := answer.get("labels"):
            return labels[0]["label"] in chosen
        return any(box["label"] in chosen for box in answer.get("boxes", ()))

    return wants


def _detections(strategy: Detections) -> Wants:
    least, most = strategy.least, strategy.most

    def wants(answer: Mapping[str, Any]) -> bool:
        boxes = answer.get("boxes")
        return boxes is not None and least <= len(boxes) <= most

    return wants


_MAKERS: Mapping[str, Callable[[Any], Wants]] = {
    "random": _random,
    "untypical": _untypical,
    "confidence": _confidence,
    "labels": _labels,
    "detections": _detections,
}
