"""What tells the class of an image beside its content."""

import numpy as np
import pytest
from PIL import Image

from training.data.image_leaks import facts_of_pixels, telling
from training.data.images import load_images

COUNT = 60


@pytest.fixture
def write(tmp_path):
    """Class folders of noise: `change` gets class and pixels, `save` gives name, format and options of the file."""

    def write_files(change=lambda label, pixels: pixels, save=lambda label, number: (f"{number}.png", {})):
        random = np.random.default_rng(0)
        for label in (0, 1):
            folder = tmp_path / "set" / ("sick", "well")[label]
            folder.mkdir(parents=True)
            for number in range(COUNT):
                pixels = change(label, random.integers(0, 256, (24, 24, 3), dtype=np.uint8))
                name, options = save(label, number)
                Image.fromarray(pixels).save(folder / name, **options)
        return [
            warning for warning in load_images(str(tmp_path / "set"), size=24).inspection.warnings if "leak" in warning
        ]

    return write_files


def test_images_that_differ_in_their_content_alone_give_no_warning(write):
    assert not write(lambda label, pixels: pixels // (1 + label))


def test_sizes_that_tell_the_class_are_reported(write):
    (warning,) = write(lambda label, pixels: pixels[: 24 - 4 * label])
    assert warning.startswith(
        "possible leak: the size of the images tells the class: '24 x 20' in 100% of 'well' and 0%"
    )
    assert warning.endswith("bring the images of all classes to the same sizes")


def test_formats_that_tell_the_class_are_reported(write):
    found = write(save=lambda label, number: (f"{number}.{('png', 'bmp')[label]}", {}))
    assert [warning.partition(" of the images")[0] for warning in found] == ["possible leak: the format"]


def test_qualities_that_tell_the_class_are_reported_with_their_number(write):
    (warning,) = write(save=lambda label, number: (f"{number}.jpg", {"quality": (75, 92)[label]}))
    assert "the JPEG quality of the images" in warning
    assert "'quality 75' in 100% of 'sick'" in warning
    assert "'quality 92' in 100% of 'well'" in warning


def test_a_frame_and_a_mark_in_a_corner_are_reported(write):
    def change(label, pixels):
        if label:
            pixels[-5:, -5:] = 255
        return pixels

    (warning,) = write(change)
    assert "the corner of the images" in warning
    assert "'bottom right of the colour 255/255/255' in 100% of 'well' and 0% of the others" in warning


def test_names_are_a_hint_unless_they_repeat_the_class(write):
    (warning,) = write(save=lambda label, number: (f"{('north', 'south')[label]}_{number}.png", {}))
    assert warning.startswith("possible leak: the file names tell the class: 'north' in 100% of 'sick' and 0% of")


def test_a_class_of_other_names_is_no_hint_beside_one_whose_names_repeat_it(write):
    assert not write(save=lambda label, number: (f"{('sick', 'img')[label]}_{number}.png", {}))


def test_formats_are_reported_once(write):
    (warning,) = write(save=lambda label, number: (f"{number}.{('png', 'jpg')[label]}", {}))
    assert "'JPEG' in 100% of 'well' and 0% of the others" in warning


def test_names_after_the_class_and_numbers_of_an_author_are_no_hint(write):
    assert not write(save=lambda label, number: (f"{('sick', 'w')[label]}.{1000 * label + number}.png", {}))


def test_numbers_of_a_camera_that_tell_the_class_are_a_hint(write):
    (warning,) = write(save=lambda label, number: (f"IMG_{3000 + 500 * label + number}.png", {}))
    assert "the numbers of the camera give the class of 100% of held-out images" in warning


def test_a_frame_is_no_frame_of_an_image_of_one_colour():
    plain = np.full((24, 24, 3), 128, np.uint8)
    assert facts_of_pixels(plain) == {"border": "", "corner": ""}
    framed = np.random.default_rng(0).integers(0, 256, (24, 24, 3), dtype=np.uint8)
    framed[[0, -1]] = framed[:, [0, -1]] = 0
    assert facts_of_pixels(framed)["border"] == "of the colour 0/0/0"


def test_a_value_of_both_classes_and_values_of_single_images_tell_nothing():
    labels = np.repeat([0, 1], 100)
    assert not telling(["a"] * 200, labels, ("x", "y"))
    assert not telling([str(number) for number in range(200)], labels, ("x", "y"))
    assert not telling(["a"] * 150 + ["b"] * 50, labels, ("x", "y"))
    assert telling(["a"] * 101 + ["b"] * 99, labels, ("x", "y"))
