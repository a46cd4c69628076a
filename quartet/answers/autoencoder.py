"""Latents, and the images made of them."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from quartet import display
from quartet.answers.base import (
    Answer,
    Document,
    ImageAnswer,
    Picture,
    RatedAnswer,
    ServedBy,
    load,
    png_of,
    typicality_of,
)


@dataclass(frozen=True, kw_only=True)
class Encoding(ImageAnswer, RatedAnswer):
    """The latents of an image.

    Attributes:
        latents: a short vector.
        inverted: whether light and dark were inverted before.
    """

    latents: tuple[float, ...]
    inverted: bool

    @classmethod
    def read(cls, document: Document, served_by: ServedBy, **more: Any) -> Self:
        """From one result."""
        rest = {"inverted": document["inverted"], "typicality": typicality_of(document)}
        return cls(served_by=served_by, latents=tuple(document["latents"]), **rest, **more)

    def rows(self) -> list[dict[str, Any]]:
        latents = {f"z{number}": value for number, value in enumerate(self.latents)}
        return [{"name": self.name, "inverted": self.inverted, **latents, "model": self._model()}]


@dataclass(frozen=True, kw_only=True)
class DecodedImage(Picture, Answer):
    """The image of some latents."""

    @classmethod
    def read(cls, document: Document, served_by: ServedBy, **more: Any) -> Self:
        """From one result."""
        return cls(served_by=served_by, png=png_of(document), **more)

    def rows(self) -> list[dict[str, Any]]:
        return [{"png": self.png, "model": self._model()}]

    def _repr_html_(self) -> str:
        return display.image(self.png, 112)


@dataclass(frozen=True, kw_only=True)
class Reconstruction(Picture, ImageAnswer, RatedAnswer):
    """An image that went through the bottleneck of an autoencoder and back.

    Attributes:
        error: mean squared error, of pixels from 0 to 1.
        inverted: whether light and dark were inverted before.
    """

    error: float
    inverted: bool

    @classmethod
    def read(cls, document: Document, served_by: ServedBy, **more: Any) -> Self:
        """From one result."""
        rest: dict[str, Any] = {name: document.get(name) for name in ("error", "inverted")}
        return cls(served_by=served_by, png=png_of(document), typicality=typicality_of(document), **rest, **more)

    def rows(self) -> list[dict[str, Any]]:
        return [{"name": self.name, "error": self.error, "inverted": self.inverted, "model": self._model()}]

    def _repr_html_(self) -> str:
        sent = display.image(load(self.source), 112) if self.source else ""
        return f"{sent}{display.image(self.png, 112)}<p>mean squared error {self.error:.4g}</p>"


@dataclass(frozen=True, kw_only=True)
class GeneratedImage(Picture):
    """A generated image, the class that it was drawn from, and the index of the class."""

    label: str
    index: int

    @classmethod
    def read(cls, document: Document) -> Self:
        """From one image of an answer."""
        return cls(label=document["label"], index=document["index"], png=png_of(document))


@dataclass(frozen=True, kw_only=True)
class Generation:
    """Generated images.

    Attributes:
        images: in order.
        seed: makes the same images again.
        served_by: who made them.
    """

    images: tuple[GeneratedImage, ...] = field(repr=False)
    seed: int
    served_by: ServedBy

    @classmethod
    def read(cls, document: Document, served_by: ServedBy) -> Self:
        """From an answer in the format `json`."""
        images = tuple(GeneratedImage.read(image) for image in document["images"])
        return cls(images=images, seed=document["seed"], served_by=served_by)

    def _repr_html_(self) -> str:
        return "".join(display.image(each.png, 56) for each in self.images[:200]) + f"<p>seed {self.seed}</p>"


@dataclass(frozen=True, kw_only=True)
class SavedGeneration:
    """Generated images in a file, its size in bytes, and the seed that makes the same images again."""

    path: Path
    size: int
    seed: int

    def _repr_png_(self) -> bytes | None:
        return self.path.read_bytes() if self.path.suffix.lower() == ".png" else None
