import numpy as np

from service.tasks.autoencoder.density import Density
from service.tasks.autoencoder.space import latent_space


def test_means_and_directions_are_those_of_the_samples():
    random = np.random.default_rng(0)
    classes, components, latent = 3, 2, 4
    factors = np.tril(random.normal(size=(classes, components, latent, latent))).astype(np.float32)
    density = Density(
        np.array([0.5, 0.3, 0.2], np.float32),
        np.array([[0.6, 0.4], [1.0, 0.0], [0.3, 0.7]], np.float32),
        random.normal(scale=3, size=(classes, components, latent)).astype(np.float32),
        factors,
    )
    drawn, labels = density.draw(200_000, seed=1)
    space = latent_space(density)
    np.testing.assert_allclose(space.mean, drawn.mean(0), atol=0.05)
    for label, mean in enumerate(space.classes):
        np.testing.assert_allclose(mean, drawn[labels == label].mean(0), atol=0.1)
    variances = np.linalg.eigvalsh(np.cov(drawn.T.astype(np.float64)))[::-1]
    np.testing.assert_allclose([each.std**2 for each in space.directions], variances, rtol=0.03)
    np.testing.assert_allclose(sum(each.explained for each in space.directions), 1, atol=1e-3)
    first = space.directions[0]
    np.testing.assert_allclose((drawn @ np.array(first.vector)).std(), first.std, rtol=0.02)
