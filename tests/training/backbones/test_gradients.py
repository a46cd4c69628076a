import copy

import pytest
import torch
from torch import nn

from training.backbones.gradients import fast_gradients, gradients_for
from training.backbones.timm_models import Conv2dSame


def test_a_network_computes_the_same_with_fast_gradients():
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1),
        nn.Conv2d(6, 6, 5, padding=2, groups=6, bias=False),
        Conv2dSame(6, 6, 3, stride=2, groups=6),
        nn.Conv2d(6, 6, 3, groups=3),
        nn.Conv2d(6, 128, 1),
        nn.Conv2d(128, 128, 3, padding=1, bias=False),
    ).train()
    kinds = [type(module) for module in network]
    frozen = nn.Conv2d(3, 3, 3, groups=3).requires_grad_(False)
    pixels = torch.rand(2, 3, 11, 12)

    def gradients(network):
        network.zero_grad()
        network(pixels).square().sum().backward()
        return [parameter.grad.clone() for parameter in network.parameters()]

    expected, answer = gradients(network), network.eval()(pixels)
    network.train()
    with fast_gradients(nn.ModuleList([network, frozen])):
        kept = [type(module) is kind for module, kind in zip(network, kinds, strict=True)]
        assert kept == [True, False, False, True, True, False]
        assert type(frozen) is nn.Conv2d
        copied = copy.deepcopy(network)
        for found, plain in zip(gradients(copied), expected, strict=True):
            torch.testing.assert_close(found, plain, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(network.eval()(pixels), answer)
    assert [type(module) for module in network] == kinds


@pytest.mark.parametrize(
    ("device", "precision", "fast"),
    [("cpu", "bfloat16", True), ("cpu", "float32", False), ("cuda", "bfloat16", False)],
)
def test_they_are_for_bfloat16_on_a_cpu(device, precision, fast):
    conv = nn.Conv2d(6, 6, 3, groups=6)
    with gradients_for(conv, torch.device(device), precision):
        assert (type(conv) is not nn.Conv2d) is fast
