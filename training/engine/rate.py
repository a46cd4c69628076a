"""A range test of the learning rate before a training (Smith 2017, arXiv:1506.01186, section 3.3)."""

import copy
import itertools
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from training.engine.learner import Batch, Learner, Step
from training.engine.loader import batches
from training.engine.optimizer import make_optimizer
from training.engine.processes import from_main
from training.engine.progress import track
from training.engine.settings import FitSettings
from training.engine.streams import Stream, generator, seed_of

# The rates that are tried, relative to the default.
_LOWEST, _HIGHEST = 1e-3, 1e2
_MOST_STEPS, _LEAST_STEPS, _SECONDS = 100, 30, 60.0
# The test ends when the smoothed loss is so many times its minimum.
_DIVERGED = 3.0
_SMOOTHING = 0.9


def find_rate(network: nn.Module, learner: Learner, settings: FitSettings, accelerator: Accelerator) -> FitSettings:
    """The settings with a peak learning rate that suits the network; those of the backbone keep their ratio to it.

    A copy of the network is trained for up to a hundred steps or a minute, while the rate rises exponentially. The
    rate of the steepest fall of the smoothed loss is taken.

    Raises:
        ValueError: float16, whose gradients are scaled.
    """
    if accelerator.mixed_precision == "fp16":
        raise ValueError("--lr find needs --precision float32 or bfloat16")
    factor = 1.0
    if accelerator.is_main_process:
        factors, losses = _test(network, learner, settings, accelerator)
        factor = steepest(factors, losses)
    factor = float(f"{from_main(accelerator, factor) * settings.lr:.1e}") / settings.lr
    backbone_lr = settings.backbone_lr and settings.backbone_lr * factor
    return replace(settings, lr=settings.lr * factor, backbone_lr=backbone_lr)


def steepest(factors: Sequence[float], losses: Sequence[float]) -> float:
    """The factor at which the loss falls fastest, before its minimum.

    Args:
        factors: of the steps, rising.
        losses: smoothed.
    """
    end = int(np.argmin(losses)) + 1
    if end < 3:  # it only rises
        return float(factors[0])
    slopes = np.gradient(np.array(losses[:end]), np.log(factors[:end]))
    return float(factors[int(np.argmin(slopes))])


def _test(
    network: nn.Module, learner: Learner, settings: FitSettings, accelerator: Accelerator
) -> tuple[list[float], list[float]]:
    """The factors of the rate, and the smoothed losses after the steps with them."""
    device = accelerator.device
    network = copy.deepcopy(network).to(device).to(memory_format=torch.channels_last).train()
    optimizer = make_optimizer(network, settings.optimizer, settings.lr, settings.backbone_lr, settings.weight_decay)
    learner.begin(network, 0, settings.epochs)
    steps, started, average = _MOST_STEPS, time.perf_counter(), 0.0
    factors: list[float] = []
    losses: list[float] = []
    read = _endless(learner, settings, accelerator)
    for number in track(range(_MOST_STEPS), "learning rate", _MOST_STEPS):
        if number >= steps:
            break
        factor = _LOWEST * (_HIGHEST / _LOWEST) ** (number / (steps - 1))
        for group in optimizer.param_groups:
            group["lr"] = group["peak_lr"] * factor
        items, batch = next(read)
        torch.manual_seed(seed_of(Stream.DROPOUT, settings.seed, 0, number))
        rng = generator(Stream.LOCAL, settings.seed, 0, number, 0, device=device)
        step = Step(items, 0, device, rng, generator(Stream.SHARED, settings.seed, 0, number))
        with accelerator.autocast():
            loss, _ = learner.loss(network, batch, step)
        loss.backward()
        if settings.clip:
            nn.utils.clip_grad_norm_(network.parameters(), settings.clip)
        optimizer.step()
        optimizer.zero_grad()
        average = _SMOOTHING * average + (1 - _SMOOTHING) * loss.item()
        smoothed = average / (1 - _SMOOTHING ** (number + 1))
        if not math.isfinite(smoothed) or smoothed > _DIVERGED * min(losses, default=math.inf):
            break
        factors.append(factor)
        losses.append(smoothed)
        if number == 2:  # the first steps are slower than the others
            pace = (time.perf_counter() - started) / 3
            steps = max(_LEAST_STEPS, min(_MOST_STEPS, int(_SECONDS / pace)))
    return factors, losses


def _endless(learner: Learner, settings: FitSettings, accelerator: Accelerator) -> Iterator[tuple[Tensor, Batch]]:
    for epoch in itertools.count():
        order = learner.order(generator(Stream.ORDER, settings.seed, epoch), settings.batch_size)
        whole = order.split(settings.batch_size)[: max(1, len(learner) // settings.batch_size)]
        yield from batches(
            learner, list(whole), seed=settings.seed, epoch=epoch, first=0, workers=0, accelerator=accelerator
        )
