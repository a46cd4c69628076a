import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from training.report.plots import draw_confusion, save_plot


@pytest.fixture
def axis():
    return Figure().subplots()


def shades(axis):
    (image,) = axis.images
    return np.square(np.asarray(image.get_array()))


def test_a_confusion_matrix_is_shaded_by_row(axis):
    draw_confusion(axis, np.array([[3, 1], [0, 0]]), ["a", "b"], "Items")
    np.testing.assert_allclose(shades(axis), [[0.75, 0.25], [0, 0]])
    assert [text.get_text() for text in axis.texts] == ["3", "1"]
    assert axis.get_title() == "Items\n(the darker, the larger the share of the row)"


def test_what_is_not_there_is_shaded_by_column(axis):
    """195 false detections beside 619 hits are a quarter of the detections, not nearly all of the background."""
    draw_confusion(
        axis, np.array([[600, 0, 200], [0, 71, 0], [200, 1, 0]]), ["a", "b", "background"], "", background=True
    )
    np.testing.assert_allclose(shades(axis), [[0.75, 0, 0.25], [0, 1, 0], [0.25, 1 / 72, 0]])
    assert "in the row background, of the column" in axis.get_title()


def test_a_plot_of_few_colours_has_a_palette_and_a_photograph_has_none(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (90, 90, 3), dtype=np.uint8)
    save_plot(tmp_path, "line.png", 3, 2, lambda axes: axes[0].plot([0, 1]))
    save_plot(tmp_path, "photograph.png", 3, 2, lambda axes: axes[0].imshow(pixels))
    modes = {}
    for name in ("line", "photograph"):
        with Image.open(tmp_path / "report" / f"{name}.png") as picture:
            modes[name] = picture.mode
    assert modes == {"line": "P", "photograph": "RGB"}
