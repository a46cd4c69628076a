import numpy as np
import pytest

from training.autoencoder.baseline import fit_components, fit_pca, pca_error
from training.autoencoder.evaluation import flat


def test_components_reconstruct_points_in_a_plane_but_no_others():
    random = np.random.default_rng(0)
    plane = random.random((100, 2)) @ random.random((2, 36)) * 100
    images = plane.reshape(100, 6, 6, 1).astype(np.uint8)
    assert pca_error(fit_pca(flat(images[:80]), 2), flat(images[80:])) < 1e-5
    noise = random.integers(0, 256, (100, 6, 6, 1), dtype=np.uint8)
    assert pca_error(fit_pca(flat(noise[:80]), 2), flat(noise[80:])) > 0.05


def test_their_number_is_limited_by_the_data():
    images = np.random.default_rng(0).integers(0, 256, (6, 5, 5, 1), dtype=np.uint8)
    assert pca_error(fit_pca(flat(images), 32), flat(images)) < 1e-6


def test_the_baseline_has_the_error_of_the_selection_half_and_measures_test_when_it_is_asked_to(colours):
    found = fit_components(colours, 4)
    assert (found.name, found.figure, found.higher_is_better) == ("PCA of 4 components", "mse", False)
    assert (found.items, found.starts) == (len(colours.train), False)
    chosen = colours.validation.take(colours.division[0])
    pca = fit_pca(flat(colours.train.images), 4)
    assert found.validation == pytest.approx(pca_error(pca, flat(chosen.images)))
    assert found.test() == pytest.approx(pca_error(pca, flat(colours.test.images)))
