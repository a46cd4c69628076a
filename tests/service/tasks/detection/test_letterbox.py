import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from service.tasks.detection.letterbox import FILL, Letterbox, letterbox, without_padding
from service.tasks.images import EncodedImage
from tests.pictures import encode, photograph

sides = st.integers(1, 5000)
frames = st.integers(16, 600)


@given(sides, sides, frames, frames)
def test_content_fits_the_frame_touches_two_edges_and_keeps_its_aspect_ratio(height, width, frame_height, frame_width):
    geometry = Letterbox.of(height, width, frame_height, frame_width)
    assert 1 <= geometry.content_height <= frame_height
    assert 1 <= geometry.content_width <= frame_width
    assert geometry.content_height == frame_height or geometry.content_width == frame_width
    assert 0 <= frame_height - geometry.content_height - 2 * geometry.top <= 1
    assert 0 <= frame_width - geometry.content_width - 2 * geometry.left <= 1
    scale = min(frame_height / height, frame_width / width)
    assert abs(geometry.content_height - max(1, height * scale)) <= 0.5 + 1e-6
    assert abs(geometry.content_width - max(1, width * scale)) <= 0.5 + 1e-6


@given(sides, sides, frames, frames, st.integers(0, 1000))
def test_boxes_survive_a_round_trip_through_the_frame(height, width, frame_height, frame_width, seed):
    geometry = Letterbox.of(height, width, frame_height, frame_width)
    corners = np.random.default_rng(seed).random((5, 4)) * [width, height, width, height]
    boxes = np.concatenate((np.minimum(*np.split(corners, 2, 1)), np.maximum(*np.split(corners, 2, 1))), 1)
    boxes = boxes.astype(np.float32)
    framed = geometry.to_frame(boxes)
    assert (framed >= -1e-3).all()
    assert (framed[:, 2] <= frame_width + 1e-2).all()
    np.testing.assert_allclose(geometry.to_original(framed), boxes, atol=max(height, width) * 1e-4)


def test_boxes_beyond_the_image_are_cut_off_at_its_edges():
    geometry = Letterbox.of(100, 200, 64, 64)
    whole = geometry.to_original(np.array([[-50, -50, 500, 500]], dtype=np.float32))
    np.testing.assert_array_equal(whole, [[0, 0, 200, 100]])


def test_a_wide_image_is_centred_between_grey_bars():
    frame, geometry = letterbox(EncodedImage.open(encode(np.full((50, 100, 3), 200, np.uint8))), 64, 64)
    assert frame.shape == (64, 64, 3)
    assert (geometry.top, geometry.left, geometry.content_height, geometry.content_width) == (16, 0, 32, 64)
    assert (frame[16:48] == 200).all()
    assert (frame[:16] == FILL).all()
    assert (frame[48:] == FILL).all()


@pytest.mark.parametrize("size", [(50, 100), (100, 50), (64, 64)])
def test_padding_is_taken_off_again(size: tuple[int, int]):
    pixels = np.full((*size, 3), 200, np.uint8)
    pixels[10:20] = FILL  # inside the image it is no padding
    frame, geometry = letterbox(EncodedImage.open(encode(pixels)), 64, 64)
    assert without_padding(frame).shape == (geometry.content_height, geometry.content_width, 3)
    blank = np.full((8, 8, 3), FILL, np.uint8)
    np.testing.assert_array_equal(without_padding(blank), blank)


def test_image_of_the_frames_size_is_left_alone():
    pixels = photograph(48, 64)
    frame, geometry = letterbox(EncodedImage.open(encode(pixels)), 48, 64)
    np.testing.assert_array_equal(frame, pixels)
    assert geometry == Letterbox(48, 64, 48, 64, 0, 0)


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_exif_rotation_is_applied_before_letterboxing(kind):
    exif = Image.Exif()
    exif[0x0112] = 6  # rotated by 90 degrees
    data = encode(photograph(60, 120), kind, exif=exif)
    _, geometry = letterbox(EncodedImage.open(data), 64, 64)
    assert (geometry.height, geometry.width) == (120, 60)
    assert (geometry.content_height, geometry.content_width) == (64, 32)


def test_large_jpeg_decoded_small_is_near_its_whole():
    pixels = photograph(1200, 1600)
    large = EncodedImage.open(encode(pixels, "JPEG", quality=95))
    frame, geometry = letterbox(large, 96, 128)
    assert (geometry.height, geometry.width) == (1200, 1600)
    whole = np.asarray(Image.fromarray(pixels).resize((128, 96), Image.Resampling.BILINEAR)).astype(int)
    assert np.abs(frame - whole).mean() < 2


def interpolated(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """As OpenCV's `INTER_LINEAR`: between the four pixels around the centre, whatever the scale."""
    found = pixels.astype(np.float64)
    for axis, size in enumerate((height, width)):
        centres = ((np.arange(size) + 0.5) * found.shape[axis] / size - 0.5).clip(0, found.shape[axis] - 1)
        low = np.floor(centres).astype(int)
        high = np.minimum(low + 1, found.shape[axis] - 1)
        share = (centres - low).reshape([-1 if each == axis else 1 for each in range(3)])
        found = found.take(low, axis) * (1 - share) + found.take(high, axis) * share
    return found


@pytest.mark.parametrize("size", [(150, 200), (31, 40), (48, 64), (333, 170)])
def test_without_antialiasing_pixels_are_interpolated_between_four(size: tuple[int, int]):
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    frame, geometry = letterbox(EncodedImage.open(encode(pixels)), 48, 64, antialias=False)
    height, width = geometry.content_height, geometry.content_width
    content = frame[geometry.top : geometry.top + height, geometry.left : geometry.left + width]
    np.testing.assert_allclose(content, interpolated(pixels, height, width), atol=1.01)


def test_a_large_jpeg_is_decoded_whole_without_antialiasing():
    # Alternating columns, of which a decoder at half the size makes grey.
    pixels = np.zeros((64, 512, 3), np.uint8)
    pixels[:, ::2] = 255
    frame, _ = letterbox(
        EncodedImage.open(encode(pixels, "JPEG", quality=100, subsampling=0)), 21, 171, antialias=False
    )
    smooth, _ = letterbox(EncodedImage.open(encode(pixels, "JPEG", quality=100, subsampling=0)), 21, 171)
    assert frame[10].std() > 2 * smooth[10].std()
