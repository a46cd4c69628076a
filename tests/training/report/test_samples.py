import numpy as np

from training.report.samples import draw_images, sheet_of, table_of


def test_a_sheet_shows_images_of_every_class_with_their_labels(colours):
    sheet = np.asarray(draw_images(colours))
    # Each class's own colour is on it, in a tile enlarged without smoothing.
    for channel in range(3):
        others = [other for other in range(3) if other != channel]
        assert ((sheet[..., channel] > 150) & (sheet[..., others] < 110).all(axis=-1)).sum() > 128 * 128 / 2
    assert (sheet < 60).all(axis=-1).any()  # letters


def test_a_sheet_of_images_of_different_sizes_has_a_legend():
    red, grey = np.zeros((9, 16, 3), np.uint8), np.full((40, 20, 1), 128, np.uint8)
    red[..., 0] = 255
    plain = sheet_of([(red, "red"), (grey, "긍정"), (grey, "x" * 500)], 2, 1)
    sheet = sheet_of([(red, "red"), (grey, ""), (grey, "")], 2, 1, [("백혈구", "#00ff00")])
    assert (np.asarray(plain) == (255, 0, 0)).all(axis=-1).any()
    assert (np.asarray(plain) == (128, 128, 128)).all(axis=-1).any()
    assert (np.asarray(sheet) == (0, 255, 0)).all(axis=-1).any()
    assert sheet.height > plain.height


def test_a_table_is_drawn_in_any_script_and_never_too_wide():
    rows = [("긍정", "아주 좋은 영화\n추천" * 50, *("x" * 200 for _ in range(50)))]
    sheet = table_of(("label", "text", *map(str, range(50))), rows)
    assert sheet.width <= 12000
    assert sheet.height < 120
    assert (np.asarray(sheet) < 100).any()
