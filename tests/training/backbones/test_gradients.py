import copy

import pytest
import torch
import torch.nn.functional as F
from timm.layers.conv2d_same import Conv2dSame
from torch import nn

from training.backbones.gradients import DepthwiseConv, fast_gradients

CPU = torch.device("cpu")


@pytest.mark.parametrize(("height", "width"), [(9, 12), (8, 8)])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize(("kernel", "padding"), [(3, 1), (3, 0), (5, 2), (5, 0), (5, 4), (7, 3)])
def test_gradients_are_those_of_a_plain_convolution(kernel, padding, stride, height, width):
    random = torch.Generator().manual_seed(0)
    shapes = (3, 4, height, width), (4, 1, kernel, kernel), (4,)
    leaves = [torch.randn(shape, generator=random).requires_grad_() for shape in shapes]
    ours = DepthwiseConv.apply(*leaves, stride, padding)
    plain = F.conv2d(*leaves, stride, padding, groups=4)
    torch.testing.assert_close(ours, plain)
    upstream = torch.randn(plain.shape, generator=random)
    found, expected = (torch.autograd.grad(answer, leaves, upstream) for answer in (ours, plain))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_under_autocast_it_computes_in_bfloat16_and_gives_gradients_in_the_precision_of_its_inputs():
    x, weight, bias = torch.rand(2, 4, 8, 8), torch.rand(4, 1, 5, 5, requires_grad=True), torch.zeros(4)
    with torch.autocast("cpu", torch.bfloat16):
        y = DepthwiseConv.apply(x, weight, bias, 2, 2)
    assert y.dtype == torch.bfloat16
    y.float().sum().backward()
    plain = weight.detach().clone().requires_grad_()
    F.conv2d(x, plain, bias, 2, 2, groups=4).sum().backward()
    assert weight.grad.dtype == torch.float32
    torch.testing.assert_close(weight.grad, plain.grad, rtol=2e-2, atol=0)


def test_a_network_computes_the_same_with_fast_gradients():
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1),
        nn.Conv2d(6, 6, 5, padding=2, groups=6, bias=False),
        Conv2dSame(6, 6, 3, stride=2, groups=6),
        nn.Conv2d(6, 6, 3, groups=3),
        nn.Conv2d(6, 6, 3, groups=6, dilation=2),
    ).train()
    kinds = [type(module) for module in network]
    frozen = nn.Conv2d(3, 3, 3, groups=3).requires_grad_(False)
    pixels = torch.rand(2, 3, 15, 20)

    def gradients(network):
        network.zero_grad()
        network(pixels).square().sum().backward()
        return [parameter.grad.clone() for parameter in network.parameters()]

    expected, answer = gradients(network), network.eval()(pixels)
    network.train()
    with fast_gradients(nn.ModuleList([network, frozen]), CPU, "bfloat16"):
        kept = [type(each) is kind for each, kind in zip(network, kinds, strict=True)]
        assert kept == [True, False, False, True, True]
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
    with fast_gradients(conv, torch.device(device), precision):
        assert (type(conv) is not nn.Conv2d) is fast
