import numpy as np
import pytest
import torch

from service.inference.cards import GoldenCard
from service.inference.session import Session
from training.autoencoder.learner import decode, encode, reconstruction_errors
from training.autoencoder.network import Autoencoder, AutoencoderGraph, DecoderGraph, EncoderGraph, halvings, to_bytes
from training.export.graph import export


@pytest.mark.parametrize("shape", [(28, 28, 1), (32, 32, 3), (17, 23, 3), (8, 8, 1)])
def test_images_of_any_size_come_back_in_it(shape):
    network = Autoencoder(shape, latent=5, widths=(8, 12)).eval()
    height, width, channels = shape
    restored, latents = network(torch.rand(3, channels, height, width))
    assert restored.shape == (3, channels, height, width)
    assert latents.shape == (3, 5)
    assert restored.min() >= 0
    assert restored.max() <= 1


def test_noise_is_added_to_the_latents():
    network = Autoencoder((12, 12, 1), latent=4, widths=(8,)).eval()
    pixels = torch.rand(2, 1, 12, 12)
    noise = torch.randn(2, 4)
    restored, latents = network(pixels, noise)
    torch.testing.assert_close(restored, network.decoder(latents + noise))
    torch.testing.assert_close(latents, network.encoder(pixels))


def test_images_too_small_to_halve_are_refused():
    with pytest.raises(ValueError, match="7 x 7 pixels are too small for 3 halvings"):
        Autoencoder((7, 7, 1), widths=(8, 8, 8))
    assert halvings((28, 27, 1), 2) == [(28, 27), (14, 14), (7, 7)]


def test_the_error_is_measured_on_the_network_as_served():
    network = Autoencoder((8, 8, 1), latent=3, widths=(8,))
    images = np.random.default_rng(0).integers(0, 256, (20, 8, 8, 1), dtype=np.uint8)
    for measure, items in ((encode, images), (reconstruction_errors, images), (decode, encode(network, images))):
        network.train()
        together = measure(network, items)
        network.train()
        np.testing.assert_allclose(measure(network, items[:1])[0], together[0], rtol=1e-5, atol=1e-5)


def test_bytes_are_rounded_to_the_nearest():
    pixels = torch.tensor([0.0, 1.0, 0.5, 100.4 / 255, 100.6 / 255]).view(1, 1, 1, 5)
    assert to_bytes(pixels).flatten().tolist() == [0, 255, 128, 100, 101]


@pytest.fixture(scope="module")
def exported(tmp_path_factory, colours):
    """The three graphs of an untrained network, and real latents."""
    folder = tmp_path_factory.mktemp("graphs")
    torch.manual_seed(0)
    network = Autoencoder((12, 12, 3), latent=6, widths=(8, 16)).eval()
    images = colours.test.images
    latents = encode(network, images)
    for name, graph, examples, tensors in (
        ("whole", AutoencoderGraph(network), images, ("images", ("restored", "error"))),
        ("encoder", EncoderGraph(network), images, ("images", ("latents",))),
        ("decoder", DecoderGraph(network), latents, ("latents", ("images",))),
    ):
        export(
            graph,
            examples,
            folder / f"{name}.onnx",
            input_name=tensors[0],
            output_names=tensors[1],
            max_batch=16,
            card=GoldenCard(rows=1, atol=1.0),
        )
    return folder, network, images, latents


def test_encoding_and_decoding_equal_reconstruction(exported):
    folder, network, images, latents = exported
    whole, encoder, decoder = (Session(folder / f"{name}.onnx", "cpu") for name in ("whole", "encoder", "decoder"))
    restored, errors = whole.run({"images": images})
    (encoded,) = encoder.run({"images": images})
    (images_again,) = decoder.run({"latents": encoded})
    np.testing.assert_array_equal(images_again, restored)
    np.testing.assert_allclose(encoded, latents, atol=1e-4)
    np.testing.assert_allclose(errors, reconstruction_errors(network, images), atol=1e-5)
    assert np.abs(decode(network, latents).astype(int) - restored).max() <= 1


def test_each_image_is_the_same_whatever_batch_it_is_decoded_in(exported):
    folder, _, _, latents = exported
    decoder = Session(folder / "decoder.onnx", "cpu")
    (together,) = decoder.run({"latents": latents})
    for size in (1, 2, 7):
        parts = [decoder.run({"latents": latents[i : i + size]})[0] for i in range(0, len(latents), size)]
        np.testing.assert_array_equal(np.concatenate(parts), together)
