"""Compares the test figures of two versions of a model."""

from dataclasses import dataclass

from service.inference.cards import MainFigure, ManifestBase
from training.export.intervals import Interval, difference, wilson


class Incomparable(Exception):
    """Two versions cannot be compared; the message says why."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """The main figure of a new version, and that of the version that serves.

    Attributes:
        new: of the new version.
        of_new: its 95 % interval; None if it is not known.
        serving: of the version that serves.
        of_serving: its 95 % interval; None if it is not known.
    """

    new: MainFigure
    of_new: Interval | None
    serving: MainFigure
    of_serving: Interval | None

    @property
    def difference(self) -> Interval:
        """The 95 % interval of the new figure minus the other one. A figure without an interval counts as exact."""
        new, serving = self.new.value, self.serving.value
        return difference(new, self.of_new or (new, new), serving, self.of_serving or (serving, serving))

    @property
    def is_worse(self) -> bool:
        """Whether the new version is worse, and the interval of the difference excludes that it is as good."""
        low, high = self.difference
        return high < 0 if self.new.higher_is_better else low > 0

    def __str__(self) -> str:
        return f"{self.new.name} {_stated(self.new, self.of_new)} against {_stated(self.serving, self.of_serving)}"


def compare(new: ManifestBase, serving: ManifestBase) -> Comparison:
    """Compares by the main test figure.

    Args:
        new: the manifest of the new version.
        serving: that of the version that serves.

    Raises:
        Incomparable: they were measured on different data, or have no main figure in common.
    """
    if new.data.fingerprint != serving.data.fingerprint:
        raise Incomparable("they were measured on different data")
    figure, other = new.main_figure, serving.main_figure
    if figure is None or other is None or figure.name != other.name:
        raise Incomparable("they have no main test figure in common")
    return Comparison(figure, _interval(figure, new), other, _interval(other, serving))


def _interval(figure: MainFigure, manifest: ManifestBase) -> Interval | None:
    if stated := manifest.intervals.get(figure.name):
        return stated
    if figure.is_share and manifest.data.test:
        return wilson(round(figure.value * manifest.data.test), manifest.data.test)
    return None


def _stated(figure: MainFigure, interval: Interval | None) -> str:
    if interval is None:
        return f"{figure.value:.4g} (of unknown interval)"
    return f"{figure.value:.4g} ({interval[0]:.4g} to {interval[1]:.4g})"
