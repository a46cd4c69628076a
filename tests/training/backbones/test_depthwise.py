import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.training.convolutions import assert_same_with_gradients, leaves
from training.backbones.depthwise import DepthwiseConv, is_depthwise


@pytest.mark.parametrize(("height", "width"), [(9, 12), (8, 8)])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize(("kernel", "padding"), [(3, 1), (3, 0), (5, 2), (5, 0), (5, 4), (7, 3)])
def test_gradients_are_those_of_a_plain_convolution(kernel, padding, stride, height, width):
    random = torch.Generator().manual_seed(0)
    x, weight, bias = leaves(random, (3, 4, height, width), (4, 1, kernel, kernel), (4,))
    ours = DepthwiseConv.apply(x, weight, bias, stride, padding)
    plain = F.conv2d(x, weight, bias, stride, padding, groups=4)
    assert_same_with_gradients(ours, plain, (x, weight, bias), random)


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


@pytest.mark.parametrize(
    ("conv", "depthwise"),
    [
        (nn.Conv2d(4, 4, 3, padding=1, groups=4), True),
        (nn.Conv2d(4, 4, 5, stride=2, groups=4, bias=False), True),
        (nn.Conv2d(4, 4, 3, padding=1, groups=2), False),
        (nn.Conv2d(4, 8, 3, padding=1, groups=4), False),
        (nn.Conv2d(4, 4, 3, padding=1, groups=4, dilation=2), False),
        (nn.Conv2d(4, 4, 3, padding=1, groups=4, padding_mode="circular"), False),
    ],
)
def test_only_convolutions_that_compute_the_same_count_as_depthwise(conv, depthwise):
    assert is_depthwise(conv) is depthwise
