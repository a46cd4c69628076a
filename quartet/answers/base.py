"""What all answers have in common; fields that a newer server adds are ignored."""

import base64
import io
import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from quartet import display

if TYPE_CHECKING:
    import PIL.Image

Document = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class ServedBy:
    """Who answered.

    Attributes:
        model: its name.
        version: of the model.
        device: where it ran.
        variant: which of the version's graphs, if the server states it.
        request_id: as in the server's log.
        timing: milliseconds of decode, queue and inference, for the whole request.
    """

    model: str
    version: str
    device: str
    variant: str | None = None
    request_id: str | None = field(default=None, compare=False)
    timing: Mapping[str, float] = field(default_factory=dict, compare=False, repr=False)

    @classmethod
    def read(cls, document: Document, headers: Mapping[str, str]) -> Self:
        """From an answer and its headers."""
        return cls(
            **known(cls, document, "request_id", "timing"),
            request_id=headers.get("x-request-id"),
            timing=_timing(headers.get("server-timing", "")),
        )


@dataclass(frozen=True, kw_only=True)
class Answer(ABC):
    """The answer for one item."""

    served_by: ServedBy

    @abstractmethod
    def rows(self) -> list[dict[str, Any]]:
        """The answer as rows of a table."""

    def _repr_html_(self) -> str:
        return display.table(self.rows())

    def _model(self) -> str:
        return f"{self.served_by.model}/{self.served_by.version}"


@dataclass(frozen=True, kw_only=True)
class RatedAnswer(Answer):
    """The answer of a model that states how typical its input is.

    Attributes:
        typicality: a p-value, small for an input that is unlike the training data: the share of typical inputs that
            are at least as unlike it. None if the model has none.
    """

    typicality: float | None = None

    @property
    def unfamiliar(self) -> float | None:
        """The former name of `typicality`."""
        warnings.warn("unfamiliar is now called typicality", DeprecationWarning, stacklevel=2)
        return self.typicality


@dataclass(frozen=True, kw_only=True)
class ImageAnswer(Answer):
    """The answer for an image.

    Attributes:
        name: of the file, where there is one.
        source: the image, or its path, to show it; None for one of many that were in memory.
    """

    name: str | None = None
    source: bytes | Path | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A picture that the service made; a notebook shows it.

    Attributes:
        png: the bytes of a PNG file.
    """

    png: bytes = field(repr=False)

    def save(self, path: str | Path) -> None:
        """Writes the PNG file."""
        Path(path).write_bytes(self.png)

    def to_pil(self) -> "PIL.Image.Image":
        """The picture for Pillow, which must be installed."""
        import PIL.Image

        return PIL.Image.open(io.BytesIO(self.png))

    def _repr_png_(self) -> bytes:
        return self.png


def known(kind: Any, document: Document, *but: str) -> dict[str, Any]:
    """The entries of a document that are fields of a dataclass."""
    names = {each.name for each in fields(kind)}.difference(but)
    return {name: value for name, value in document.items() if name in names}


def typicality_of(document: Document) -> float | None:
    """The `typicality` of a result; older servers call it `unfamiliar`."""
    value: float | None = document.get("typicality", document.get("unfamiliar"))
    return value


def png_of(document: Document) -> bytes:
    """The PNG file that a result holds in base64."""
    return base64.b64decode(document["png"])


def load(source: bytes | Path) -> bytes:
    """The bytes of an image's file."""
    return source if isinstance(source, bytes) else source.read_bytes()


def _timing(header: str) -> dict[str, float]:
    """The durations of a Server-Timing header (W3C), in milliseconds."""
    found = {}
    for part in header.split(","):
        name, _, parameters = part.strip().partition(";")
        for parameter in parameters.split(";"):
            key, _, value = parameter.strip().partition("=")
            if key == "dur":
                found[name] = float(value)
    return found
