import numpy as np
from PIL import Image

from training.report.samples import draw_images, sheet_of, table_of, with_legend


def test_a_sheet_shows_images_of_every_class_with_their_labels(colours):
    sheet = np.asarray(draw_images(colours))
    # Each class's own colour is on it, in a tile enlarged without smoothing.
    for channel in range(3):
        others = [other for other in range(3) if other != channel]
        assert ((sheet[..., channel] > 150) & (sheet[..., others] < 110).all(axis=-1)).sum() > 128 * 128 / 2
    assert (sheet < 60).all(axis=-1).any()  # letters


def test_a_table_is_drawn_in_any_script_and_never_too_wide():
    rows = [("긍정", "아주 좋은 영화\n추천" * 50, *("x" * 200 for _ in range(50)))]
    sheet = table_of(("label", "text", *map(str, range(50))), rows)
    assert sheet.width <= 2100
    assert sheet.height == 60
    assert (np.asarray(sheet) < 100).any()


def test_a_legend_names_the_colours_that_fit():
    sheet = sheet_of([(Image.new("RGB", (160, 90)), "")] * 2, 160, 2)
    assert sheet.size == (344, 126)  # rows are as high as the pictures are
    drawn = np.asarray(with_legend(sheet, [("백혈구", "#ff0000"), ("x" * 100, "#00ff00")]))
    assert (drawn[:28] == (255, 0, 0)).all(axis=-1).any()
    assert not (drawn == (0, 255, 0)).all(axis=-1).any()
