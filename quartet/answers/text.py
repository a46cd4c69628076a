"""The topics of texts."""

from dataclasses import dataclass
from typing import Any, Self

from quartet import display
from quartet.answers.base import Document, ServedBy, known
from quartet.answers.classification import Labelled, labels_of


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
        words = None if read is None else tuple(Word(**known(Word, word)) for word in read)
        rest = {name: document[name] for name in ("tokens", "unknown", "cut_off")}
        return cls(served_by=served_by, **labels_of(document), **rest, words=words, **more)

    def _repr_html_(self) -> str:
        return self._bars() + display.words((each.word, each.weight) for each in self.words or ())
