"""Which graph of a version may answer: the reference, or one of its variants; and which of them was asked for."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from service.inference.cards import AUTO, REFERENCE, ManifestBase
from service.inference.manifest import MODEL


@dataclass(frozen=True, slots=True)
class Selection:
    """Which variant shall answer: a name, `reference`, or `auto`, the fastest that is good on this machine.

    Attributes:
        default: for every model that has no entry of its own.
        by_model: by the name of the model.
    """

    default: str = AUTO
    by_model: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> "Selection":
        """Reads a list such as `auto,classifier=int8,detector=reference`.

        Raises:
            ValueError: it is no such list.
        """
        chosen: dict[str, str] = {}
        for part in text.split(","):
            model, separator, variant = (piece.strip() for piece in part.rpartition("="))
            if not variant or bool(separator) != bool(model):
                raise ValueError("must be a VARIANT, or MODEL=VARIANT for single models, with commas between them")
            if model in chosen:
                raise ValueError(f"says twice what {model or 'every model'} shall use")
            chosen[model] = variant
        return cls(chosen.pop("", AUTO), chosen)

    def of(self, model: str) -> str:
        """What was asked for of a model."""
        return self.by_model.get(model, self.default)


@dataclass(frozen=True, slots=True)
class Graph:
    """A graph that may answer.

    Attributes:
        name: `reference`, or of the variant.
        file: in the version's folder.
        manifest: what holds for its answers.
        gain: how many times as fast as the reference it was where it was made, at its best batch size.
    """

    name: str
    file: str
    manifest: ManifestBase
    gain: float = 1.0

    @property
    def files(self) -> tuple[str, str]:
        """What is read of it."""
        return self.file, self.manifest.golden.file


def graphs(manifest: ManifestBase, wanted: str, device: Literal["cpu", "cuda"]) -> tuple[list[Graph], dict[str, str]]:
    """The graphs that may answer, and why the other variants may not.

    Args:
        manifest: of the version.
        wanted: `auto`, `reference`, or the name of a variant.
        device: that serves.

    Returns:
        The graphs, the reference last: it answers where no other is good. And a reason for each other variant, by its
        name.
    """
    reference = Graph(REFERENCE, MODEL, manifest)
    found, others = [], {}
    for card in manifest.variants:
        if wanted not in (AUTO, card.name):
            others[card.name] = f"{wanted} was asked for"
        elif card.device != device:
            others[card.name] = f"it is meant for {card.device}"
        else:
            gains = [speed.items_per_second / speed.reference for speed in card.speed if speed.device == device]
            found.append(Graph(card.name, card.file, manifest.as_variant(card), max(gains, default=1.0)))
    if wanted not in (AUTO, REFERENCE) and wanted not in {card.name for card in manifest.variants}:
        others[wanted] = "this version has no such variant"
    return [*found, reference], others
