"""What the tests of convolutions with gradients of our own have in common."""

import torch


def leaves(random, *shapes):
    """Random float64 tensors of these shapes that take gradients."""
    return [torch.randn(shape, generator=random, dtype=torch.float64, requires_grad=True) for shape in shapes]


def assert_same_with_gradients(ours, plain, tensors, random):
    """That two results are the same, and so are their gradients with respect to the tensors they were computed of."""
    torch.testing.assert_close(ours, plain)
    gradient = torch.randn(plain.shape, generator=random, dtype=torch.float64)
    for found, expected in zip(
        torch.autograd.grad(ours, tensors, gradient), torch.autograd.grad(plain, tensors, gradient), strict=True
    ):
        torch.testing.assert_close(found, expected)
