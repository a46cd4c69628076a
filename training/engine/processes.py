"""What several processes of one training must agree on."""

import os
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list, gather_object
from torch import Tensor, nn

Value = TypeVar("Value")


def is_main_process() -> bool:
    """Whether this is the process that prints, by what launchers set; before there is an `Accelerator`."""
    return os.environ.get("RANK", "0") == "0"


def process_count() -> int:
    """The number of processes, by what launchers set; before there is an `Accelerator`."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def end_processes() -> None:
    """Leaves the process group, if there is one."""
    if dist.is_initialized():
        dist.destroy_process_group()


def from_main(accelerator: Accelerator, value: Value) -> Value:
    """The value of the main process, in all processes; every process must call this.

    Args:
        accelerator: of the processes.
        value: can be pickled; those of the other processes do not matter.
    """
    if accelerator.num_processes == 1:
        return value
    shared: list[Value] = broadcast_object_list([value])
    return shared[0]


def in_parts(
    accelerator: Accelerator | None, count: int, compute: Callable[[npt.NDArray[np.int64]], list[Any]]
) -> list[Any]:
    """Results for `count` items in order, in all processes; each process computes those of its own part.

    Args:
        accelerator: of the processes; None for this one alone.
        count: how many items there are. No item is padded or counted twice.
        compute: the results for some of the items, one for each index.
    """
    indices = np.arange(count)
    if accelerator is None or accelerator.num_processes == 1:
        return compute(indices)
    own = np.array_split(indices, accelerator.num_processes)[accelerator.process_index]
    gathered: list[Any] = gather_object(compute(own) if len(own) else [])
    return gathered


class _Sum(torch.autograd.Function):
    """The sum of a tensor over all processes; its gradient is the sum of their gradients."""

    @staticmethod
    def forward(context: Any, values: Tensor) -> Tensor:
        total = values.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:
        total = gradient.clone()
        dist.all_reduce(total)
        return total


class _SyncedNorm(nn.modules.batchnorm._BatchNorm):
    """Batch normalisation by the statistics of the whole batch, on any device; PyTorch's own needs a GPU."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - PyTorch's name
        if not self.training or not dist.is_initialized():
            return super().forward(input)
        axes = [axis for axis in range(input.ndim) if axis != 1]
        shape = [1, -1, *[1] * (input.ndim - 2)]
        values = input.float()
        count = values.new_tensor([values.numel() / values.shape[1]])
        sums = torch.cat((values.sum(axes), values.square().sum(axes), count))
        # The gradient of a sum over the processes is needed, too.
        sums = _Sum.apply(sums)
        total, channels = sums[-1], input.shape[1]
        mean = sums[:channels] / total
        variance = sums[channels:-1] / total - mean.square()
        if self.track_running_stats and self.running_mean is not None and self.running_var is not None:
            self.num_batches_tracked.add_(1)  # type: ignore[union-attr]
            momentum = self.momentum if self.momentum is not None else 1 / float(self.num_batches_tracked)  # type: ignore[arg-type]
            with torch.no_grad():
                self.running_mean.lerp_(mean, momentum)
                self.running_var.lerp_(variance * total / (total - 1), momentum)
        normalised = (values - mean.view(shape)) * (variance + self.eps).rsqrt().view(shape)
        if self.affine:
            normalised = normalised * self.weight.view(shape) + self.bias.view(shape)
        return normalised.to(input.dtype)


def synchronise_norms(network: nn.Module, accelerator: Accelerator) -> nn.Module:
    """The network, whose batch normalisation uses the statistics of the whole batch where several processes share it.

    Weights and buffers stay the same objects.
    """
    if accelerator.num_processes == 1:
        return network
    if accelerator.device.type == "cuda":
        return nn.SyncBatchNorm.convert_sync_batchnorm(network)
    for module in network.modules():
        # Another class and not another module: the state dict stays as it is, and the network may be copied.
        if type(module) in (nn.BatchNorm1d, nn.BatchNorm2d):
            module.__class__ = type(f"Synced{type(module).__name__}", (_SyncedNorm, type(module)), {})
    return network
