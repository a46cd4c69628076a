"""Markers: a token that stands in nearly all texts of a class and in no others, and would not be in new texts."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from training.data.dataset import Inspection, stratified_sample

_WORD = re.compile(r"\w+")
_BRACKETED = re.compile(r"[^\w\s]+\w[\w\s.-]*[^\w\s]+")
_SAMPLE, _CHARACTERS = 6_000, 5_000
# Texts of a class that a token must be in, in each half of the sample, and the fraction of its texts that are of it.
_FEWEST, _PRECISION = 10, 0.98
# Fraction of a class's texts that have the token: any word of a large class; a token with signs around it; a token that
# is always at the same place. "who" begins 60% of the questions about persons and is no marker.
_WORDS, _SIGNS, _PLACED = 0.95, 0.8, 0.75
_LARGE = 0.1
_SAME_PLACE = 0.95


def warn_of_markers(
    inspection: Inspection, texts: Sequence[str], labels: npt.NDArray[np.int64], classes: Sequence[str]
) -> None:
    """Warns of markers, and of texts that contain the name of their class and of no other one."""
    chosen = stratified_sample(labels, _SAMPLE, seed=0)
    order = np.random.default_rng(0).permutation(chosen)
    halves = [_Half(texts, labels, some) for some in np.array_split(order, 2)]
    found = sorted(set.intersection(*(set(half.markers()) for half in halves)))
    named = min(half.named(classes) for half in halves)
    if named >= _WORDS:
        inspection.warnings.append(
            f"possible leak: {named:.0%} of the texts contain the name of their class and of no other: new texts will "
            "not, unless they are labelled already. Remove it from the texts"
        )
    elif found:
        by_class: dict[int, str] = {}
        for label, token in found:
            by_class.setdefault(label, token)
        shown = ", ".join(f"{token!r} is in most texts of {classes[label]!r}" for label, token in by_class.items())
        inspection.warnings.append(
            f"possible leak: {shown} and in hardly any others: if new texts do not have it, remove it from these"
        )


class _Half:
    """Half of the sample: how many texts of each class contain each token, and where."""

    def __init__(self, texts: Sequence[str], labels: npt.NDArray[np.int64], chosen: npt.NDArray[np.int64]) -> None:
        self._labels = labels[chosen].tolist()
        self._texts = [texts[index][:_CHARACTERS].casefold() for index in chosen]
        self._sizes = Counter(self._labels)

    def markers(self) -> Iterator[tuple[int, str]]:
        """Class and token."""
        everywhere: Counter[str] = Counter()
        within: dict[int, Counter[str]] = {label: Counter() for label in self._sizes}
        places: dict[int, Counter[tuple[str, int]]] = {label: Counter() for label in self._sizes}
        for text, label in zip(self._texts, self._labels, strict=True):
            words = text.split()
            tokens = {*words, *_WORD.findall(text), *_BRACKETED.findall(text)}
            everywhere.update(tokens)
            within[label].update(tokens)
            places[label].update(_ends(words))
        total = len(self._texts)
        for label, counts in within.items():
            size = self._sizes[label]
            for token, count in counts.items():
                if count < max(_FEWEST, _PLACED * size) or count < _PRECISION * everywhere[token]:
                    continue
                # In a class of 95% of all texts, most words hold for 95%.
                if 1 - count / everywhere[token] > 0.1 * (1 - size / total):
                    continue
                placed = any(places[label][token, place] >= _SAME_PLACE * count for place in (0, 1, 2, -1, -2, -3))
                signs = _BRACKETED.fullmatch(token) is not None
                common = count >= _WORDS * size and size >= _LARGE * total
                if placed or common or (signs and count >= _SIGNS * size):
                    yield label, token

    def named(self, classes: Sequence[str]) -> float:
        """The fraction of texts that contain the name of their class and of no other."""
        names = [name.casefold() for name in classes]
        if any(len(name) < 2 or name.isdigit() for name in names):
            return 0.0
        known = {name: label for label, name in enumerate(names)}
        if all(_WORD.fullmatch(name) for name in names):
            found = [{known[word] for word in _WORD.findall(text) if word in known} for text in self._texts]
        else:
            found = [{label for name, label in known.items() if name in text} for text in self._texts]
        return sum(some == {label} for some, label in zip(found, self._labels, strict=True)) / max(1, len(found))


def _ends(words: Sequence[str]) -> Iterable[tuple[str, int]]:
    """The first three words with their places, and the last three, counted from the end."""
    yield from ((word, place) for place, word in enumerate(words[:3]))
    yield from ((word, -1 - place) for place, word in enumerate(words[:-4:-1]))
