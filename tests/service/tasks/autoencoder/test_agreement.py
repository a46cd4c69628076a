"""Agreement of an autoencoder and its parts: images and latents that are close."""

import numpy as np
import pytest

from service.tasks.agreement import Incomparable, check_comparable, measure_between
from tests.golden_rows import committed


@pytest.mark.parametrize("name", ["autoencoder", "decoder"])
def test_images_may_differ_as_much_as_restored_ones_from_their_originals(name: str):
    model = committed(name)
    _, compare = measure_between(model.task, model.manifest, model.manifest)
    accepted = model.manifest.metrics.mse**0.5 * 255
    ours, more = np.full((28, 28, 1), 100, np.uint8), model.rows[0][1:]
    near, far = (np.full((28, 28, 1), 100 + int(accepted) + step, np.uint8) for step in (0, 1))
    assert compare((ours, *more), (near, *more)).agrees
    assert compare((ours, *more), (far, *more)) == (False, pytest.approx((int(accepted) + 1) / 255), None)
    # uint8 must not wrap around.
    assert compare((far, *more), (ours, *more)).difference == pytest.approx((int(accepted) + 1) / 255)


def test_latents_are_compared_relative_to_their_spread():
    model = committed("encoder")
    _, compare = measure_between(model.task, model.manifest, model.manifest)
    for latents, p_value in model.rows:
        spread = latents.std()
        assert compare((latents, p_value), (latents + 0.09 * spread, p_value)).agrees
        assert compare((latents, p_value), (latents + 0.2 * spread, p_value)).difference == pytest.approx(0.2, rel=0.01)
        assert not compare((latents, p_value), (-latents, p_value)).agrees


def test_versions_of_other_latents_or_backgrounds_cannot_be_compared():
    decoder, encoder = committed("decoder"), committed("encoder")
    with pytest.raises(Incomparable, match="numbers of latents differ"):
        check_comparable(encoder.task, encoder.manifest, encoder.manifest.model_copy(update={"latent": 16}))
    white = decoder.manifest.image.model_copy(update={"background": 1.0})
    with pytest.raises(Incomparable, match="backgrounds"):
        check_comparable(decoder.task, decoder.manifest, decoder.manifest.model_copy(update={"image": white}))
