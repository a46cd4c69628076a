import numpy as np
import pytest
import torch

from service.tasks.cards import Calibration
from training.export.calibrate import expected_calibration_error, softmax
from training.export.scaling import Scaling, fit_scaling


def items(count, scaling, seed=0, classes=6):
    """Logits whose probabilities are right once they are scaled, and labels drawn from these."""
    random = np.random.default_rng(seed)
    logits = (4 * random.standard_normal((count, classes))).astype(np.float32)
    chances = scaling.probabilities(logits).cumsum(1)
    return logits, (chances < random.random((count, 1))).sum(1).clip(max=classes - 1)


@pytest.mark.parametrize("exponent", [0.6, 1.7])
def test_temperature_and_exponent_are_recovered(exponent):
    logits, labels = items(20_000, Scaling(1.5, exponent))
    found = fit_scaling(logits, labels)
    assert found.exponent == pytest.approx(exponent, rel=0.06)
    assert found.temperature == pytest.approx(1.5, rel=0.06)
    assert expected_calibration_error(found.probabilities(logits), labels) < 0.01


@pytest.mark.parametrize("count", [20, 100, 3000])
def test_a_temperature_is_enough_where_an_exponent_does_not_help(count):
    logits, labels = items(count, Scaling(2.0))
    found = fit_scaling(logits, labels)
    assert found.exponent == 1
    if count == 3000:
        assert found.temperature == pytest.approx(2, rel=0.1)


def test_an_exponent_of_1_divides_the_logits():
    logits, _ = items(20, Scaling())
    np.testing.assert_allclose(Scaling(2.0).probabilities(logits), softmax(logits / 2), rtol=1e-6)
    # The other formula comes to the same.
    np.testing.assert_allclose(Scaling(2.0, 1.0000001).probabilities(logits), softmax(logits / 2), rtol=1e-4)


def test_the_order_of_the_classes_is_kept():
    logits, _ = items(500, Scaling())
    for exponent in (0.5, 1.0, 3.0):
        probabilities = Scaling(3.0, exponent).probabilities(logits)
        # The smallest may be equal after rounding.
        assert (np.diff(np.take_along_axis(probabilities, logits.argsort(1), 1)) >= 0).all()
        np.testing.assert_array_equal(probabilities.argmax(1), logits.argmax(1))


def test_an_exponent_above_1_raises_high_confidences_and_lowers_those_in_the_middle():
    def confidence(scaling, lead):
        return scaling.probabilities(np.array([[lead, 0, 0]], np.float32)).max()

    scaling = Scaling(2.2, 2.0)
    assert confidence(scaling, 6.0) > confidence(Scaling(), 6.0)
    assert confidence(scaling, 1.0) < confidence(Scaling(), 1.0)


def test_a_split_without_a_mistake_leads_to_no_certainty():
    logits, _ = items(300, Scaling())
    scaling = fit_scaling(logits, logits.argmax(1))
    assert np.isfinite(scaling.probabilities(logits)).all()
    assert scaling.probabilities(logits).max(1).min() < 1


def test_logits_so_far_apart_that_a_probability_is_1():
    scaled = Scaling(1.0, 1.8).scale(torch.tensor([[200.0, 0.0, -50.0]], requires_grad=True))
    torch.testing.assert_close(torch.softmax(scaled, 1), torch.tensor([[1.0, 0.0, 0.0]]))


def test_a_manifest_of_before_exponents_has_the_exponent_1():
    old = Calibration(temperature=1.7, ece_before=0.1, ece_after=0.1)
    assert Scaling.of(old) == Scaling(1.7)
    assert "exponent" not in old.model_dump()
    assert Scaling.of(Calibration(**old.model_dump(), exponent=1.5)) == Scaling(1.7, 1.5)
