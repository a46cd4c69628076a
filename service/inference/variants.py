"""The graphs of a version that may answer: the reference and its variants."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from service.inference.cards import AUTO, REFERENCE, ManifestBase
from service.inference.manifest import MODEL


@dataclass(frozen=True, slots=True)
class Selection:
    """Which graph answers: a variant's name, `reference`, or `auto`, the fastest that is good on this machine.

    Attributes:
        default: for models without an entry in `by_model`.
        by_model: by the name of the model.
    """

    default: str = AUTO
    by_model: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> "Selection":
        """Parses a list such as `auto,classifier=int8,detector=reference`.

        Raises:
            ValueError: the text is not such a list.
        """
        chosen: dict[str, str] = {}
        for part in text.split(","):
            model, separator, variant = (piece.strip() for piece in part.rpartition("="))
            if not variant or bool(separator) != bool(model):
                raise ValueError("must be a VARIANT, or MODEL=VARIANT for single models, with commas between them")
            if model in chosen:
                raise ValueError(f"names {model or 'a default'} twice")
            chosen[model] = variant
        return cls(chosen.pop("", AUTO), chosen)

    def of(self, model: str) -> str:
        """The choice for a model."""
        return self.by_model.get(model, self.default)


@dataclass(frozen=True, slots=True)
class Graph:
    """The reference or a variant; its manifest has the values that hold for its answers."""

    name: str
    file: str
    manifest: ManifestBase

    @property
    def files(self) -> tuple[str, str]:
        """The files that are read to open it."""
        return self.file, self.manifest.golden.file


def graphs(manifest: ManifestBase, wanted: str, device: Literal["cpu", "cuda"]) -> tuple[list[Graph], dict[str, str]]:
    """The graphs that may answer on a device, the reference last, and by name why each other variant may not.

    `wanted` is `auto`, `reference`, or the name of a variant.
    """
    reference = Graph(REFERENCE, MODEL, manifest)
    found, others = [], {}
    for card in manifest.variants:
        if wanted not in (AUTO, card.name):
            others[card.name] = f"{wanted} was asked for"
        elif card.device != device:
            others[card.name] = f"it is meant for {card.device}"
        else:
            found.append(Graph(card.name, card.file, manifest.as_variant(card)))
    if wanted not in (AUTO, REFERENCE, *(card.name for card in manifest.variants)):
        others[wanted] = "this version has no such variant"
    return [*found, reference], others
