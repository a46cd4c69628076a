"""Compares the test figures of two versions of a model."""

from service.inference.cards import MainFigure, ManifestBase
from training.export.intervals import Interval, difference, wilson


class Incomparable(Exception):
    """Two versions cannot be compared; the message says why."""


def compare(new: ManifestBase, serving: ManifestBase) -> tuple[bool, str]:
    """Whether a new version is worse than the serving one by the main test figure, and both figures in words.

    It is worse if the 95 % interval of the difference excludes that it is as good. A figure without an interval counts
    as exact.

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
    own, of_other = _interval(figure, new), _interval(other, serving)
    low, high = difference(
        figure.value, own or (figure.value, figure.value), other.value, of_other or (other.value, other.value)
    )
    is_worse = high < 0 if figure.higher_is_better else low > 0
    return is_worse, f"{figure.name} {_stated(figure, own)} against {_stated(other, of_other)}"


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
