import numpy as np
import pytest

from service.tasks.autoencoder.coding import is_inverse, on_background


def sheet(paper, ink, side=10):
    pixels = np.full((side, side, 1), paper, np.uint8)
    pixels[3:7, 4:6] = ink
    return pixels


@pytest.mark.parametrize(("paper", "background", "inverse"), [(250, 0.0, True), (10, 0.0, False), (10, 1.0, True)])
def test_an_inverted_background_is_recognised(paper, background, inverse):
    assert is_inverse(sheet(paper, 128), background) is inverse


def test_a_stroke_that_crosses_the_edge_is_not_taken_for_background():
    pixels = sheet(250, 0)
    pixels[:, 4:6] = 0
    assert is_inverse(pixels, 0.0)


@pytest.mark.parametrize(("background", "far"), [(0.0, 255), (1.0, 0)])
def test_grey_paper_and_pale_ink_are_stretched_to_full_contrast(background, far):
    paper, ink = (20, 170) if far else (235, 80)
    levels = on_background(sheet(paper, ink), background)
    np.testing.assert_array_equal(levels, sheet(255 - far, far))


def test_noise_in_a_blank_image_is_not_amplified():
    empty = np.random.default_rng(0).integers(10, 25, (10, 10, 1), dtype=np.uint8)
    np.testing.assert_array_equal(on_background(empty, 0.0), empty)
