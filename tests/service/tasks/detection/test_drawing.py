import io

import numpy as np
import pytest
from PIL import Image

from service.tasks.detection.drawing import draw_detections
from service.tasks.images import EncodedImage
from tests.pictures import encode


def box(x_min, y_min, x_max, y_max, index=0, label="cell"):
    corners = {"x_min": x_min, "y_min": y_min, "x_max": x_max, "y_max": y_max}
    return {"label": label, "index": index, "score": 0.87, **corners}


def drawn(pixels, boxes, kind="PNG", **options):
    picture = Image.open(io.BytesIO(draw_detections(EncodedImage.open(encode(pixels, kind, **options)), boxes)))
    assert picture.format == "PNG"
    return np.asarray(picture)


GREY = np.full((240, 320, 3), 128, np.uint8)


def test_a_box_is_outlined_where_it_is_and_its_inside_stays():
    picture = drawn(GREY, [box(100, 80, 200, 160)])
    assert picture.shape == GREY.shape
    for y, x in ((80, 150), (160, 150), (120, 100), (120, 200)):
        assert (picture[y, x] == (0xD5, 0x5E, 0x00)).all()
    assert (picture[100:150, 120:190] == 128).all()
    assert (picture[170:, :] == 128).all()


def test_a_label_is_above_its_box_or_inside_at_the_upper_edge():
    above = drawn(GREY, [box(100, 80, 200, 160)])
    assert (above[66:78, 100:140] != 128).any()
    inside = drawn(GREY, [box(100, 0, 200, 160)])
    assert (inside[4:14, 104:140] != 128).any()


@pytest.mark.parametrize("corners", [(300, 200, 320, 240), (0, 0, 5, 5), (0, 0, 320, 240)])
def test_a_label_never_leaves_the_picture(corners):
    picture = drawn(GREY, [box(*corners, label="a rather long label")])
    assert picture.shape == GREY.shape
    assert (picture != 128).any()


def test_labels_are_drawn_in_their_script():
    labels = ("적혈구", "백혈구", "café", "cafe", "ラベル", "клетка")
    pictures = [drawn(GREY, [box(100, 80, 200, 160, label=label)])[60:80].tobytes() for label in labels]
    # What a font lacks looks the same, whatever it is.
    assert len(set(pictures)) == len(labels)


def test_classes_have_colours_of_their_own():
    picture = drawn(GREY, [box(20, 80, 100, 160, 0), box(150, 80, 250, 160, 1)])
    assert (picture[120, 20] != picture[120, 150]).any()


def test_a_large_photograph_is_scaled_down_together_with_its_boxes():
    picture = drawn(np.full((3000, 4000, 3), 128, np.uint8), [box(1000, 900, 2000, 1800)], "JPEG")
    assert picture.shape == (480, 640, 3)
    assert (np.abs(picture[200, 160].astype(int) - (0xD5, 0x5E, 0x00)) < 8).all()


def test_rotation_by_exif_is_honoured():
    exif = Image.Exif()
    exif[0x0112] = 6
    assert drawn(GREY, [box(10, 10, 100, 100)], "JPEG", exif=exif).shape == (320, 240, 3)
    assert drawn(GREY, [box(10, 10, 100, 100)], "PNG", exif=exif).shape == (320, 240, 3)


def test_an_image_without_detections_is_returned_unchanged():
    np.testing.assert_array_equal(drawn(GREY, []), GREY)
