"""Tokenising texts, and the influence of each word on the answer."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

PAD, UNKNOWN = 0, 1

# Characters that are tokenised at once; an encoding takes hundreds of bytes per character.
_PART = 20_000
# The most characters that are tokenised, which takes up to a second; words of the rest are only counted.
_MOST_TOKENISED = 100_000
_SPACE = re.compile(r"\s")


@dataclass(frozen=True, slots=True)
class Reading:
    """A tokenised text: `tokens` words were read, of which the vocabulary lacks `unknown`, and `cut_off` were not.

    Attributes:
        ids: int64, shape (tokens,); at least one.
        offsets: start and end of each word that was read, in characters.
    """

    ids: npt.NDArray[np.int64]
    tokens: int
    unknown: int
    cut_off: int
    offsets: tuple[tuple[int, int], ...]


def read_text(tokenizer: Tokenizer, text: str, length: int) -> Reading:
    """Tokenises a text of any length, of which the model reads at most `length` words.

    The tokenizer does not truncate, and white space separates its words.
    """
    ids: list[int] = []
    offsets: list[tuple[int, int]] = []
    words = 0
    for start, part in _parts(text):
        if len(ids) >= length or start >= _MOST_TOKENISED:
            words += len(part.split())
            continue
        # Unlike `encode`, this releases the GIL.
        (encoding,) = tokenizer.encode_batch([part])
        words += len(encoding.ids)
        room = length - len(ids)
        if room > 0:
            ids += encoding.ids[:room]
            offsets += [(start + begin, start + end) for begin, end in encoding.offsets[:room]]
    return Reading(
        np.array(ids or [UNKNOWN], dtype=np.int64), len(ids), ids.count(UNKNOWN), words - len(ids), tuple(offsets)
    )


def _parts(text: str) -> Iterator[tuple[int, str]]:
    """Parts of bounded size with their offsets, which end before white space where there is any."""
    start = 0
    while len(text) - start > _PART:
        space = _SPACE.search(text, start + _PART, start + 2 * _PART)
        end = space.start() if space else min(start + 2 * _PART, len(text))
        yield start, text[start:end]
        start = end
    yield start, text[start:]


def without_each(ids: npt.NDArray[np.int64]) -> list[npt.NDArray[np.int64]]:
    """A copy of the text for each word, with that word unknown."""
    variants = np.tile(ids, (len(ids), 1))
    np.fill_diagonal(variants, UNKNOWN)
    return list(variants)


def influence(
    text: str, reading: Reading, probabilities: npt.NDArray[np.float32], without: npt.NDArray[np.float32]
) -> list[dict[str, str | int | float | bool]]:
    """How much each word moves the likeliest label (occlusion, Zeiler and Fergus 2014, arXiv:1311.2901).

    A word's weight is the loss of log-odds without it; near 1 a probability hardly changes. `probabilities` of the
    text have the shape (labels,), those `without` each word (words, labels).
    """
    likeliest = int(probabilities.argmax())
    lost = (_log_odds(probabilities[likeliest]) - _log_odds(without[:, likeliest])).tolist()
    return [
        {"word": text[start:end], "start": start, "weight": round(weight, 4), "known": known}
        for (start, end), weight, known in zip(reading.offsets, lost, (reading.ids != UNKNOWN).tolist(), strict=True)
    ]


def _log_odds(probabilities: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    # Near 1, float32 resolves no more.
    p = np.asarray(probabilities, dtype=np.float64).clip(1e-6, 1 - 1e-6)
    odds: npt.NDArray[np.float64] = np.log(p / (1 - p))
    return odds
