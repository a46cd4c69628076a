import io

import numpy as np
import pytest
from PIL import Image

from service.tasks.autoencoder.pictures import Sheet, side_by_side, to_png


def read(data):
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        return image.mode, np.asarray(image)


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB")])
def test_png_holds_the_pixels(channels, mode):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, channels), dtype=np.uint8)
    kind, back = read(to_png(pixels))
    assert kind == mode
    np.testing.assert_array_equal(back.reshape(pixels.shape), pixels)


def test_side_by_side_has_a_gap_and_large_pixels():
    row = side_by_side([np.zeros((2, 3, 1), np.uint8), np.full((2, 3, 1), 9, np.uint8)], scale=2)
    assert row.shape == (4, 14, 1)
    assert row[0, :, 0].tolist() == [0] * 6 + [255] * 2 + [9] * 6


@pytest.mark.parametrize("count", [1, 2, 5, 9, 10, 33])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_sheet_written_in_parts_shows_every_tile_at_its_position(count, channels):
    tiles = np.random.default_rng(1).integers(0, 256, (count, 4, 6, channels), dtype=np.uint8)
    sheet = Sheet(count, 4, 6, channels)
    parts = [sheet.add(list(tiles[start : start + 4])) for start in range(0, count, 4)]
    mode, pixels = read(b"".join([*parts, sheet.end()]))
    assert mode == ("L" if channels == 1 else "RGB")
    assert pixels.shape[:2] == (sheet.height, sheet.width)
    columns = int(np.ceil(np.sqrt(count)))
    pixels = pixels.reshape(*pixels.shape[:2], channels)
    for index, tile in enumerate(tiles):
        top, left = 1 + index // columns * 5, 1 + index % columns * 7
        np.testing.assert_array_equal(pixels[top : top + 4, left : left + 6], tile)
    assert (pixels[0] == 255).all()
    assert (pixels[-1] == 255).all()
