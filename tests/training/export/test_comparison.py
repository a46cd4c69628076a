"""Two versions by their test figures: what counts as worse, and what cannot be compared."""

import pytest

from service.tasks.registry import read_manifest
from tests.server import ROOT
from training.export.comparison import Incomparable, compare


def committed(name):
    return read_manifest(ROOT / "models" / name / "1")


def changed(manifest, figure, interval=None, **data):
    """The manifest with another value of one of its figures, and another interval or none."""
    intervals = {name: each for name, each in manifest.intervals.items() if name != figure}
    intervals |= {figure: interval[1:]} if interval and len(interval) == 3 else {}
    value = interval[0] if interval else getattr(manifest.metrics, figure)
    return manifest.model_copy(
        update={
            "metrics": manifest.metrics.model_copy(update={figure: value}),
            "intervals": intervals,
            "data": manifest.data.model_copy(update=data),
        }
    )


@pytest.mark.parametrize(
    ("model", "figure", "better"),
    [
        ("classifier", "accuracy", 1),
        ("topics", "accuracy", 1),
        ("tabular", "accuracy", 1),
        ("detector", "map", 1),
        ("autoencoder", "mse", -1),
        ("encoder", "mse", -1),
        ("decoder", "mse", -1),
    ],
)
def test_every_task_has_a_figure_and_its_direction(model, figure, better):
    serving = committed(model)
    assert not compare(serving, serving)[0]
    value, (low, high) = getattr(serving.metrics, figure), serving.intervals[figure]
    width = high - low
    for shift, worse in ((-2, True), (-0.3, False), (0.3, False), (2, False)):
        by = better * shift * width
        new = changed(serving, figure, (value + by, low + by, high + by))
        is_worse, words = compare(new, serving)
        assert (words.split()[0], is_worse) == (figure, worse), shift


def test_the_number_of_test_items_gives_an_interval_to_accuracy():
    serving = changed(committed("tabular"), "accuracy")  # 110 of 114
    assert serving.intervals.keys() == {"macro_f1"}
    few = changed(serving, "accuracy", (104 / 114,))
    assert not compare(few, serving)[0]
    assert compare(changed(serving, "accuracy", (95 / 114,)), serving)[0]
    assert compare(few, serving)[1] == "accuracy 0.9123 (0.846 to 0.9517) against 0.9649 (0.9132 to 0.9863)"


def test_a_figure_whose_intervals_are_unknown_counts_as_exact():
    serving = changed(committed("detector"), "map", (0.61,))
    assert compare(changed(serving, "map", (0.60,)), serving)[0]
    assert not compare(changed(serving, "map", (0.61,)), serving)[0]
    assert "0.6 (of unknown interval) against" in compare(changed(serving, "map", (0.6,)), serving)[1]


def test_other_data_and_other_figures_cannot_be_compared():
    serving = committed("classifier")
    with pytest.raises(Incomparable, match="different data"):
        compare(changed(serving, "accuracy", (0.1,), fingerprint="sha256:0"), serving)
    regression = changed(committed("tabular"), "accuracy", (None,))
    with pytest.raises(Incomparable, match="no main test figure in common"):
        compare(regression, committed("tabular"))
