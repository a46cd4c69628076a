import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.training.convolutions import assert_same_with_gradients, leaves
from training.backbones.wide import WideConv, is_wide


@pytest.mark.parametrize(("height", "width"), [(3, 4), (7, 7), (9, 12)])
@pytest.mark.parametrize(("kernel", "padding"), [(3, 1), (3, 0), (5, 2), (2, 1)])
def test_gradients_are_those_of_a_plain_convolution(kernel, padding, height, width):
    """Over maps of up to 64 pixels, which have a gradient of our own, and over larger ones."""
    random = torch.Generator().manual_seed(0)
    x, weight, bias = leaves(random, (3, 5, height + kernel, width + kernel), (4, 5, kernel, kernel), (4,))
    ours, plain = WideConv.apply(x, weight, bias, padding), F.conv2d(x, weight, bias, padding=padding)
    assert_same_with_gradients(ours, plain, (x, weight, bias), random)


def test_under_autocast_it_computes_in_bfloat16_and_gives_gradients_in_the_precision_of_its_inputs():
    torch.manual_seed(0)
    x, weight = torch.rand(4, 128, 3, 3), torch.rand(128, 128, 3, 3, requires_grad=True)
    plain = weight.detach().clone().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        y = WideConv.apply(x, weight, None, 1)
    assert y.dtype == torch.bfloat16
    y.float().sum().backward()
    F.conv2d(x, plain, padding=1).sum().backward()
    assert weight.grad.dtype == torch.float32
    torch.testing.assert_close(weight.grad, plain.grad, rtol=2e-2, atol=0)


@pytest.mark.parametrize(
    ("conv", "wide"),
    [
        (nn.Conv2d(128, 128, 3, padding=1), True),
        (nn.Conv2d(128, 160, 5, padding=2, bias=False), True),
        (nn.Conv2d(64, 128, 3, padding=1), False),
        (nn.Conv2d(128, 128, 1), False),
        (nn.Conv2d(128, 128, 3, stride=2), False),
        (nn.Conv2d(128, 128, 3, padding=2), False),
        (nn.Conv2d(128, 128, 3, padding=1, groups=2), False),
        (nn.Conv2d(128, 128, 3, padding=1, padding_mode="reflect"), False),
    ],
)
def test_only_convolutions_that_compute_the_same_count_as_wide(conv, wide):
    assert is_wide(conv) is wide
