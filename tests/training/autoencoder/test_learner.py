import numpy as np
import torch
import torch.nn.functional as F

from tests.training.steps import loss_of as step_loss
from training.autoencoder.learner import Reconstruction, corrupt, recompute_norms, reconstruction_errors
from training.autoencoder.network import Autoencoder
from training.autoencoder.options import ReconstructionSettings
from training.data.augment import Augment, to_pixels

IMAGES = np.random.default_rng(0).integers(0, 256, (12, 16, 16, 1), dtype=np.uint8)
ITEMS = torch.tensor([3, 1, 7, 5])


def loss_of(network, **settings):
    task = Reconstruction(IMAGES, IMAGES, ReconstructionSettings(**{"denoise": 0, **settings}))
    with torch.no_grad():
        return step_loss(task, network, ITEMS)


def test_the_loss_is_the_reconstruction_error_plus_the_latent_penalty():
    network = Autoencoder((16, 16, 1), latent=3, widths=(4,)).eval()
    pixels = to_pixels(torch.from_numpy(IMAGES)[ITEMS])
    restored, latents = network(pixels)
    loss, figures = loss_of(network, shrink=0.5, noise=0, consistency=0)
    torch.testing.assert_close(figures["error"], F.mse_loss(restored, pixels))
    torch.testing.assert_close(loss, figures["error"] + 0.5 * latents.square().mean())


def test_consistency_is_how_far_a_shift_moves_the_latents():
    network = Autoencoder((16, 16, 1), latent=3, widths=(4,)).eval()
    generator = torch.Generator().manual_seed(1)
    torch.randn((4, 3), generator=generator)  # the noise is drawn first
    shifted = Augment(flip=False, translate=1, cutout=0)(torch.from_numpy(IMAGES)[ITEMS], ITEMS, 0, generator)
    pixels = to_pixels(torch.from_numpy(IMAGES)[ITEMS])
    moved = F.mse_loss(network.encoder(shifted), network.encoder(pixels))
    assert moved > 1e-4
    difference = loss_of(network, consistency=2)[0] - loss_of(network, consistency=0)[0]
    torch.testing.assert_close(difference, 2 * moved, rtol=1e-4, atol=1e-6)


def test_the_loss_is_measured_against_the_image_without_its_noise():
    network = Autoencoder((16, 16, 1), latent=3, widths=(4,)).eval()
    generator = torch.Generator().manual_seed(1)
    torch.randn((4, 3), generator=generator)  # the noise of the latents is drawn first
    pixels = to_pixels(torch.from_numpy(IMAGES)[ITEMS])
    noisy = corrupt(pixels, 0.5, generator)
    assert (noisy != pixels).any()
    _, figures = loss_of(network, noise=0, consistency=0, denoise=0.5)
    torch.testing.assert_close(figures["error"], F.mse_loss(network(noisy)[0], pixels))


def test_half_of_the_images_get_noise_of_a_random_strength():
    grey = torch.full((2000, 1, 8, 8), 0.5)
    noisy = corrupt(grey, 0.2, torch.Generator().manual_seed(0))
    deviations = (noisy - grey).flatten(1).std(1)
    clean = (deviations == 0).float().mean()
    assert 0.45 < clean < 0.55
    strengths = deviations[deviations > 0]
    assert abs(strengths.mean() - 0.1) < 0.01
    assert strengths.max() < 0.3
    assert 0 <= noisy.min() <= noisy.max() <= 1
    assert corrupt(grey, 0, torch.Generator()) is grey


def test_recomputed_statistics_are_those_of_the_images_themselves():
    network = Autoencoder((16, 16, 1), latent=3, widths=(4,))
    network(to_pixels(torch.from_numpy(255 - IMAGES)))  # of other images
    before = reconstruction_errors(network, IMAGES).mean()
    recompute_norms(network, IMAGES, denoise=0)
    assert not network.training
    norm = network.encoder.body[1]
    outputs = network.encoder.body[0](to_pixels(torch.from_numpy(IMAGES)))
    torch.testing.assert_close(norm.running_mean, outputs.mean((0, 2, 3)), rtol=1e-4, atol=1e-5)
    assert reconstruction_errors(network, IMAGES).mean() != before
