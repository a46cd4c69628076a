"""What the service answers, as dataclasses; fields that a newer server adds are left out."""

import base64
import io
from collections.abc import Mapping, Sequence
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
        variant: which of the version's graphs, where the server says so.
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
            **_known(cls, document, "request_id", "timing"),
            request_id=headers.get("x-request-id"),
            timing=_timing(headers.get("server-timing", "")),
        )


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The answer for one item."""

    served_by: ServedBy

    def rows(self) -> list[dict[str, Any]]:
        """The answer as rows of a table."""
        raise NotImplementedError

    def _repr_html_(self) -> str:
        return display.table(self.rows())

    def _model(self) -> str:
        return f"{self.served_by.model}/{self.served_by.version}"


@dataclass(frozen=True, kw_only=True)
class ImageAnswer(Answer):
    """The answer for an image.

    Attributes:
        name: of the file, where there is one.
        source: the image, or its path, to show it; None for one of many that were in memory.
    """

    name: str | None = None
    source: bytes | Path | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """A label, its index among the model's labels, and its calibrated probability."""

    label: str
    index: int
    probability: float


@dataclass(frozen=True, kw_only=True)
class Labelled(Answer):
    """An answer that is a choice of labels.

    Attributes:
        labels: the likeliest first.
        label_set: with `coverage`, labels that together cover the truth so often.
    """

    labels: tuple[Label, ...]
    label_set: tuple[str, ...] | None = None

    @property
    def label(self) -> str:
        """The likeliest label."""
        return self.labels[0].label

    @property
    def probability(self) -> float:
        """Of the likeliest label."""
        return self.labels[0].probability

    def _row(self) -> dict[str, Any]:
        row: dict[str, Any] = {"label": self.label, "probability": self.probability}
        return row if self.label_set is None else {**row, "label_set": self.label_set}

    def rows(self) -> list[dict[str, Any]]:
        return [{**self._row(), "model": self._model()}]

    def _bars(self) -> str:
        return display.bars((each.label, each.probability) for each in self.labels)


@dataclass(frozen=True, kw_only=True)
class Prediction(Labelled, ImageAnswer):
    """The class of an image."""

    @classmethod
    def read(cls, document: Document, served_by: ServedBy, **more: Any) -> Self:
        """From one result."""
        return cls(served_by=served_by, **_labels(document), **more)

    def rows(self) -> list[dict[str, Any]]:
        return [{"name": self.name, **self._row(), "model": self._model()}]

    def _repr_html_(self) -> str:
        return (display.image(_load(self.source), 160) if self.source else "") + self._bars()


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """An object: label, score, and where it is, in pixels of the image after EXIF rotation, from the top left."""

    label: str
    index: int
    score: float
    x_min: float
    y_min: float
    x_max: float
    y_max: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Threshold:
    """The confidence from which a detection counts, and what it reached on the test split."""

    confidence: float
    precision: float
    recall: float


@dataclass(frozen=True, kw_only=True)
class Detections(ImageAnswer):
    """The objects of an image, the surest first.

    Attributes:
        boxes: of the objects.
        counts: objects of each label.
        width: of the image, in pixels after EXIF rotation.
        height: likewise.
        threshold: from which an object counts.
    """

    boxes: tuple[Box, ...]
    counts: Mapping[str, int]
    width: int
    height: int
    threshold: Threshold

    @classmethod
    def read(cls, document: Document, served_by: ServedBy, **more: Any) -> Self:
        """From one result, to which the answer's `threshold` was added."""
        boxes = tuple(Box(**_known(Box, box)) for box in document["boxes"])
        threshold = Threshold(**_known(Threshold, document["threshold"]))
        rest = {name: document[name] for name in ("counts", "width", "height")}
        return cls(served_by=served_by, boxes=boxes, threshold=threshold, **rest, **more)

    def rows(self) -> list[dict[str, Any]]:
        return [
            {"name": self.name, **{each.name: getattr(box, each.name) for each in fields(box)}, "model": self._model()}
            for box in self.boxes
        ]

    def _repr_html_(self) -> str:
        if self.source is None:
            return display.table(self.rows())
        found = [(box.label, box.score, (box.x_min, box.y_min, box.x_max, box.y_max)) for box in self.boxes]
        return display.boxes(_load(self.source), self.width, self.height, found)


@dataclass(frozen=True, kw_only=True)
class Encoding(ImageAnswer):
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
        return cls(served_by=served_by, latents=tuple(document["latents"]), inverted=document["inverted"], **more)

    def rows(self) -> list[dict[str, Any]]:
        latents = {f"z{number}": value for number, value in enumerate(self.latents)}
        return [{"name": self.name, "inverted": self.inverted, **latents, "model": self._model()}]


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


@dataclass(frozen=True, kw_only=True)
class DecodedImage(Picture, Answer):
    """The image of some latents."""

    @classmethod
    def read(cls, document: Document, served_by: ServedBy, **more: Any) -> Self:
        """From one result."""
        return cls(served_by=served_by, png=_png(document), **more)

    def rows(self) -> list[dict[str, Any]]:
        return [{"png": self.png, "model": self._model()}]

    def _repr_html_(self) -> str:
        return display.image(self.png, 112)


@dataclass(frozen=True, kw_only=True)
class Reconstruction(Picture, ImageAnswer):
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
        rest = {name: document[name] for name in ("error", "inverted")}
        return cls(served_by=served_by, png=_png(document), **rest, **more)

    def rows(self) -> list[dict[str, Any]]:
        return [{"name": self.name, "error": self.error, "inverted": self.inverted, "model": self._model()}]

    def _repr_html_(self) -> str:
        sent = display.image(_load(self.source), 112) if self.source else ""
        return f"{sent}{display.image(self.png, 112)}<p>mean squared error {self.error:.4g}</p>"


@dataclass(frozen=True, kw_only=True)
class GeneratedImage(Picture):
    """An image that has never been seen before, the class that it was drawn from, and the class's index."""

    label: str
    index: int

    @classmethod
    def read(cls, document: Document) -> Self:
        """From one image of an answer."""
        return cls(label=document["label"], index=document["index"], png=_png(document))


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Word:
    """A word of a text, the index of its first character, and by how much it raises the log-odds of the answer."""

    word: str
    start: int
    weight: float


@dataclass(frozen=True, kw_only=True)
class TextPrediction(Labelled):
    """The topic of a text.

    Attributes:
        tokens: words that were read.
        unknown: of these, words that are not in the model's vocabulary.
        cut_off: words at the end that are beyond what the model reads.
        words: with `explain`, what each word does to the likeliest label.
    """

    tokens: int
    unknown: int
    cut_off: int
    words: tuple[Word, ...] | None = None

    @classmethod
    def read(cls, document: Document, served_by: ServedBy, **more: Any) -> Self:
        """From one result."""
        read = document.get("words")
        words = None if read is None else tuple(Word(**_known(Word, word)) for word in read)
        rest = {name: document[name] for name in ("tokens", "unknown", "cut_off")}
        return cls(served_by=served_by, **_labels(document), **rest, words=words, **more)

    def _repr_html_(self) -> str:
        return self._bars() + display.words((each.word, each.weight) for each in self.words or ())


@dataclass(frozen=True, kw_only=True)
class RowPrediction(Answer):
    """What was predicted of a row: labels, the likeliest first, or a number.

    Attributes:
        target: what is predicted.
        labels: where it is a class.
        value: where it is a number.
    """

    target: str
    labels: tuple[Label, ...] | None = None
    value: float | None = None

    @classmethod
    def read(cls, document: Document, served_by: ServedBy, **more: Any) -> Self:
        """From one result, to which the answer's `target` was added."""
        rest = {"target": document["target"], "value": document.get("value")}
        labels = _labels(document)["labels"] if document.get("labels") is not None else None
        return cls(served_by=served_by, labels=labels, **rest, **more)

    @property
    def prediction(self) -> str | float | None:
        """The likeliest label, or the number."""
        return self.labels[0].label if self.labels else self.value

    def rows(self) -> list[dict[str, Any]]:
        row: dict[str, Any] = {self.target: self.prediction}
        if self.labels:
            row["probability"] = self.labels[0].probability
        return [{**row, "model": self._model()}]

    def _repr_html_(self) -> str:
        if self.labels is None:
            return display.table(self.rows())
        return display.bars((each.label, each.probability) for each in self.labels)


@dataclass(frozen=True, kw_only=True)
class Model:
    """A model that is served.

    Attributes:
        name: by which it is asked.
        version: that answers.
        task: what it is for.
        description: in a line.
        device: where it runs.
        metrics: figures on the test split.
        manifest: all that is known of it; only from `Client.model`.
        fields: everything that the server says of it.
    """

    name: str
    version: str
    task: str
    description: str
    device: str
    metrics: Mapping[str, float]
    manifest: Mapping[str, Any] | None = field(default=None, repr=False)
    fields: Mapping[str, Any] = field(repr=False)

    @classmethod
    def read(cls, document: Document) -> Self:
        """From an entry of the list, or the answer about one model."""
        return cls(**_known(cls, document, "fields"), fields=document)

    def rows(self) -> list[dict[str, Any]]:
        """The model as a row of a table."""
        row = {name: getattr(self, name) for name in ("name", "version", "task", "description", "device")}
        return [{**row, **self.metrics}]

    def _repr_html_(self) -> str:
        return display.table(self.rows())


def _known(kind: Any, document: Document, *but: str) -> dict[str, Any]:
    """The entries of a document that are fields of a dataclass."""
    names = {each.name for each in fields(kind)}.difference(but)
    return {name: value for name, value in document.items() if name in names}


def _labels(document: Document) -> dict[str, Any]:
    chosen: Sequence[str] | None = document.get("label_set")
    return {
        "labels": tuple(Label(**_known(Label, label)) for label in document["labels"]),
        **({} if chosen is None else {"label_set": tuple(chosen)}),
    }


def _png(document: Document) -> bytes:
    return base64.b64decode(document["png"])


def _load(source: bytes | Path) -> bytes:
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
