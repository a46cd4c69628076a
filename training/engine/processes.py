"""What several processes of one training must agree on."""

import os
from typing import TypeVar

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list

Value = TypeVar("Value")


def is_main_process() -> bool:
    """Whether this is the process that prints, by what launchers set; before there is an `Accelerator`."""
    return os.environ.get("RANK", "0") == "0"


def end_processes() -> None:
    """Leaves the process group, if there is one."""
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def from_main(accelerator: Accelerator, value: Value) -> Value:
    """The main process's value, in all processes; every process must call this.

    Args:
        accelerator: of the processes.
        value: can be pickled; those of the other processes do not matter.
    """
    if accelerator.num_processes == 1:
        return value
    shared: list[Value] = broadcast_object_list([value])
    return shared[0]
