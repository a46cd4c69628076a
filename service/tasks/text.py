"""Text classification: a text in; topics with calibrated probabilities, and how it was read, out."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

TOKENIZER = "tokenizer.json"
PAD, UNKNOWN = 0, 1


@dataclass(frozen=True, slots=True)
class Reading:
    """How a text was read.

    Attributes:
        ids: int64, shape (tokens,); at least one.
        tokens: words that were read.
        unknown: of these, how many are not in the vocabulary.
        cut_off: words beyond the length that the model reads.
        offsets: where each word that was read begins and ends in the text.
    """

    ids: npt.NDArray[np.int64]
    tokens: int
    unknown: int
    cut_off: int
    offsets: tuple[tuple[int, int], ...]


def read_text(tokenizer: Tokenizer, text: str, length: int) -> Reading:
    """A text as the model takes it.

    Args:
        tokenizer: without truncation.
        text: as it was written.
        length: the most words that the model reads.
    """
    encoding = tokenizer.encode(text)
    ids = encoding.ids[:length]
    return Reading(
        np.array(ids or [UNKNOWN], dtype=np.int64),
        len(ids),
        ids.count(UNKNOWN),
        max(0, len(encoding.ids) - length),
        tuple(encoding.offsets[:length]),
    )


def without_each(ids: npt.NDArray[np.int64]) -> list[npt.NDArray[np.int64]]:
    """The text as often as it has words, each time with another one taken for unknown."""
    variants = np.tile(ids, (len(ids), 1))
    np.fill_diagonal(variants, UNKNOWN)
    return list(variants)


def influence(
    text: str,
    reading: Reading,
    probabilities: npt.NDArray[np.float32],
    without: npt.NDArray[np.float32],
) -> list[dict[str, str | int | float]]:
    """How much each word moves the likeliest label (occlusion, Zeiler and Fergus 2014, arXiv:1311.2901).

    Args:
        text: as it was written.
        reading: of it.
        probabilities: of the whole text, shape (labels,).
        without: of the text without each word, shape (words, labels).
    """
    likeliest = int(probabilities.argmax())
    lost = (probabilities[likeliest] - without[:, likeliest]).tolist()
    return [
        {"word": text[start:end], "start": start, "weight": round(weight, 4)}
        for (start, end), weight in zip(reading.offsets, lost, strict=True)
    ]
