import numpy as np
import pytest

from training.autoencoder.evaluation import fit_density, frechet_distance, linear_accuracy, nearest


def test_frechet_distance_of_gaussians_is_the_closed_form():
    random = np.random.default_rng(0)
    one = random.normal([0, 0], [1, 2], (200_000, 2))
    other = random.normal([3, 0], [1, 1], (200_000, 2))
    # (3 - 0)^2 for the means, (2 - 1)^2 for the second deviation.
    assert frechet_distance(one, other) == pytest.approx(10, rel=0.02)
    assert frechet_distance(one, one) == pytest.approx(0, abs=1e-6)


def test_frechet_distance_of_features_that_never_vary_is_finite():
    flat = np.zeros((50, 4), np.float32)
    assert frechet_distance(flat, flat + 1) == pytest.approx(4)


def test_linear_accuracy_learns_linearly_separable_classes():
    random = np.random.default_rng(0)
    features = random.normal(size=(300, 5)).astype(np.float32)
    labels = (features[:, 0] > 0).astype(np.int64)
    assert linear_accuracy(features[:200], labels[:200], features[200:], labels[200:]) > 0.9


def test_nearest_finds_the_image_and_its_distance():
    random = np.random.default_rng(0)
    among = random.integers(0, 256, (30, 5, 5, 1), dtype=np.uint8)
    indices, distances = nearest(among[[7, 3]], among)
    assert indices.tolist() == [7, 3]
    np.testing.assert_allclose(distances, 0, atol=1e-10)
    changed = among[[7]].copy()
    changed[0, 0, 0, 0] = 255 - changed[0, 0, 0, 0]
    expected = ((changed.astype(float) - among[[7]]) / 255) ** 2
    assert nearest(changed, among)[1][0] == pytest.approx(expected.mean(), rel=1e-3)


def test_density_is_a_mixture_for_each_class_with_fewer_gaussians_where_there_is_little():
    random = np.random.default_rng(0)
    many = np.concatenate((random.normal(-4, 0.5, (300, 3)), random.normal(4, 0.5, (300, 3))))
    few = random.normal(20, 0.1, (5, 3))
    latents = np.concatenate((many, few)).astype(np.float32)
    labels = np.repeat([0, 1], [600, 5])
    density = fit_density(latents, labels, 2, components=2)
    assert (density.weights[0] > 0.4).all()
    assert density.weights[1].tolist() == [1, 0]
    np.testing.assert_allclose(sorted(density.means[0, :, 0]), [-4, 4], atol=0.2)
    drawn, _ = density.draw(100, seed=0, label=1)
    np.testing.assert_allclose(drawn.mean(0), 20, atol=0.3)
    np.testing.assert_allclose(density.classes, [600 / 605, 5 / 605], rtol=1e-5)


def test_a_class_of_one_image_has_a_density_about_it():
    latents = np.concatenate((np.random.default_rng(0).normal(0, 1, (50, 3)), [[9, 9, 9]])).astype(np.float32)
    density = fit_density(latents, np.repeat([0, 1], [50, 1]), 2)
    drawn, _ = density.draw(50, seed=0, label=1)
    np.testing.assert_allclose(drawn, 9, atol=1)
