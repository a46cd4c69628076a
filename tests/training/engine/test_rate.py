import dataclasses

import numpy as np
import pytest
import torch

from tests.training.quick import LEARNING, SETTINGS
from training.classification.learner import Classification
from training.engine.rate import find_rate, steepest


def test_the_rate_of_the_steepest_fall_is_taken():
    factors = np.geomspace(1e-3, 1e2, 50)
    losses = 2 - 1 / (1 + (0.1 / factors) ** 2) + (factors / 10) ** 2  # falls around 0.1, rises from 10 on
    assert 0.05 < steepest(factors, losses) < 0.2
    assert steepest(factors, factors) == factors[0]


def test_a_range_test_leaves_the_network_as_it_is(tiny_cnn, colours, accelerator):
    network = tiny_cnn()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    learner = Classification(colours.train, colours.validation, LEARNING)
    settings = dataclasses.replace(SETTINGS, lr=1.0, backbone_lr=0.25)
    found = find_rate(network, learner, settings, accelerator)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert 1e-3 <= found.lr < 10
    assert found.backbone_lr == pytest.approx(found.lr / 4)
    assert found == find_rate(network, learner, settings, accelerator)


def test_a_loss_that_is_no_number_ends_the_test(tiny_cnn, colours, accelerator):
    class Broken(Classification):
        steps = 0

        def loss(self, network, batch, step):
            self.steps += 1
            loss, figures = super().loss(network, batch, step)
            return loss * (float("nan") if self.steps > 10 else 1), figures

    learner = Broken(colours.train, colours.validation, LEARNING)
    assert find_rate(tiny_cnn(), learner, SETTINGS, accelerator).lr > 0
    assert learner.steps == 11
