"""What reading a data set found: facts, warnings, and the items that cannot be used, all named at once."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from service.tasks.cards import ClassMetrics
from training.data.dataset import DataError, Inspection
from training.options import Bad as Bad

# Problems that are named, each with up to 8 locations; the others are counted.
SHOWN = 20


@dataclass(slots=True)
class Problems:
    """Items that cannot be used, each with the file and the line or row where it is."""

    count: int = 0
    _locations: dict[str, list[str]] = field(default_factory=dict)
    _counts: Counter[str] = field(default_factory=Counter)

    def add(self, where: str, what: str) -> None:
        self.count += 1
        if what in self._locations or len(self._locations) < SHOWN:
            self._counts[what] += 1
            if self._counts[what] <= 8:
                self._locations.setdefault(what, []).append(where)

    @property
    def shown(self) -> list[str]:
        """A line for each kind of problem."""
        lines = []
        for what, (first, *others) in self._locations.items():
            more = self._counts[what] - 1 - len(others)
            also = f"; also {', '.join(others)}" + (f" and {more:,} more" if more else "") if others else ""
            lines.append(f"{first}: {what}{also}")
        return lines

    def settle(self, source: str, bad: Bad, inspection: Inspection) -> None:
        """Notes in `inspection` which items are left out; raises DataError if there are some and `bad` is `refuse`."""
        if not self.count:
            return
        more = f"\n  … and {unnamed:,} more" if (unnamed := self.count - self._counts.total()) else ""
        items = "item" if self.count == 1 else "items"
        listed = f"{self.count:,} unusable {items} in {source}:\n  " + "\n  ".join(self.shown) + more
        if bad == "refuse":
            raise DataError(f"{listed}\nCorrect them, or leave them out with --bad drop.")
        inspection.dropped.append(f"Left out: {listed}")


def describe_classes(
    inspection: Inspection, classes: Sequence[str], counts: Sequence[int], items: str, *, remedy: str = ""
) -> None:
    """Notes how many items each class has, and warns of rare and of dominant classes and of a `remedy` against them."""
    total = sum(counts)
    order = sorted(range(len(classes)), key=lambda index: -counts[index])
    listed = ", ".join(f"{classes[index]} {counts[index]:,}" for index in order[:12])
    more = f", and {len(order) - 12} more classes" if len(order) > 12 else ""
    kinds = f"{len(classes)} classes" if len(classes) > 1 else "one class"
    inspection.notes.append(f"{total:,} {items} of {kinds}: {listed}{more}")
    warn = inspection.warnings.append
    if single := [classes[index] for index in order if counts[index] == 1]:
        warn(f"only one of the {items} is of the class {_some(single)}: it is trained on, and nothing measures it")
    most = max(counts, default=0)
    look = "look at the figures of each class"
    if len(classes) > 1 and total and most / total >= 0.9:
        often = f"{most / total:.0%} of the {items} are {classes[order[0]]!r}, and so accurate is that answer alone"
        warn(f"{often}: {look} instead of the accuracy{remedy}")
    elif rare := [classes[index] for index in order if 1 < counts[index] < min(0.02 * total, most / 10)]:
        warn(f"fewer than 2% of the {items} are of the class {_some(rare)}: {look}{remedy}")


def describe_splits(inspection: Inspection, splits: dict[str, int], held_out: Sequence[str], items: str) -> None:
    """Notes how many items each split has, and which splits were held out from train."""
    parts = [f"{name} {count:,}" + (" (held out)" if name in held_out else "") for name, count in splits.items()]
    inspection.notes.append(f"{items}: {', '.join(parts)}")


def describe_repeats(inspection: Inspection, splits: Mapping[str, Sequence[bytes]], items: str) -> None:
    """Warns of items that are in several splits, by a digest of each item of `train`, `validation` and `test`."""
    for name, other in (("validation", "train"), ("test", "train"), ("test", "validation")):
        known = set(splits[other])
        if repeated := sum(digest in known for digest in splits[name]):
            also = f"are also {'training' if other == 'train' else other} {items}"
            some = f"{repeated:,} of the {len(splits[name]):,} {name} {items}"
            inspection.warnings.append(f"{some} {also}: the figures for {name} will be too good")


def missed_classes(per_class: Sequence[ClassMetrics]) -> str:
    """A line about the classes that have test items and a recall of 0, which an accuracy hides; empty if none has."""
    missed = [each for each in per_class if each.support and not each.recall]
    names, items = _some([each.label for each in missed]), f"{sum(each.support for each in missed):,} items"
    line = f"never right on the test split: {names} ({items}); the accuracy hides that, the macro F1 does not"
    return line if missed else ""


def _some(names: Sequence[str], most: int = 5) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(repr(name) for name in names[:most]) + more
