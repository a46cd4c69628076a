import numpy as np
import pytest

from service.tasks.autoencoder.density import Density, Draws


@pytest.fixture
def density():
    """Two classes of two latents; the second class has only one Gaussian."""
    factors = np.zeros((2, 2, 2, 2), np.float32)
    factors[0, 0], factors[0, 1] = [[0.1, 0], [0.05, 0.2]], [[0.3, 0], [0, 0.1]]
    factors[1, 0] = [[0.2, 0], [0, 0.2]]
    means = np.array([[[5, 0], [-5, 0]], [[0, 9], [0, 0]]], np.float32)
    return Density(np.array([0.75, 0.25], np.float32), np.array([[0.6, 0.4], [1, 0]], np.float32), means, factors)


def test_draws_follow_the_mixture(density):
    latents, labels = density.draw(20_000, seed=1)
    assert latents.shape == (20_000, 2)
    assert latents.dtype == np.float32
    assert labels.mean() == pytest.approx(0.25, abs=0.02)
    right = latents[(labels == 0) & (latents[:, 0] > 0)]
    assert len(right) / (labels == 0).sum() == pytest.approx(0.6, abs=0.02)
    np.testing.assert_allclose(right.mean(0), [5, 0], atol=0.02)
    factor = density.factors[0, 0]
    np.testing.assert_allclose(np.cov(right, rowvar=False), factor @ factor.T, atol=0.003)
    second = latents[labels == 1]
    np.testing.assert_allclose(second.mean(0), [0, 9], atol=0.02)


def test_a_label_is_what_all_of_them_have(density):
    latents, labels = density.draw(50, seed=3, label=1)
    assert set(labels) == {1}
    assert (latents[:, 1] > 7).all()


def test_same_seed_same_draws_and_a_longer_request_begins_like_a_shorter(density):
    one, labels = density.draw(30, seed=7)
    again, _ = density.draw(30, seed=7)
    np.testing.assert_array_equal(one, again)
    longer, more = density.draw(100, seed=7)
    np.testing.assert_array_equal(longer[:30], one)
    np.testing.assert_array_equal(more[:30], labels)
    assert not np.array_equal(density.draw(30, seed=8)[0], one)


def test_latents_do_not_depend_on_the_size_of_the_parts(density):
    whole, labels = density.draw(50, seed=4)
    draws = Draws(density, seed=4)
    parts = [draws.take(count) for count in (1, 7, 30, 12)]
    np.testing.assert_array_equal(np.concatenate([latents for latents, _ in parts]), whole)
    np.testing.assert_array_equal(np.concatenate([drawn for _, drawn in parts]), labels)


def test_temperature_scales_the_distance_from_the_means(density):
    cold, _ = density.draw(200, seed=2, temperature=0.0)
    means = {tuple(mean) for mean in (*density.means[0], density.means[1, 0])}
    assert {tuple(row) for row in cold} <= means
    warm, _ = density.draw(200, seed=2, temperature=1.0)
    half, _ = density.draw(200, seed=2, temperature=0.5)
    np.testing.assert_allclose(half - cold, (warm - cold) / 2, atol=1e-5)


def test_a_density_survives_a_round_trip_to_disk(density, tmp_path):
    density.save(tmp_path / "density.npz")
    back = Density.load(tmp_path / "density.npz")
    np.testing.assert_array_equal(back.draw(20, seed=0)[0], density.draw(20, seed=0)[0])
