"""The training loop of every network: schedule, weight averaging, checkpoints that resume exactly, progress.

What a network learns is a `Task`; how it learns is here.
"""

import json
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from accelerate import Accelerator
from rich.console import Console
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from training.progress import ProgressBar
from training.task import Draw, Task
from training.weights import CHECKPOINT


@dataclass(frozen=True, slots=True)
class FitSettings:
    """How a network is trained.

    Attributes:
        epochs: passes over the training split.
        batch_size: items per step, over all devices together.
        optimizer: `sgd` (Nesterov momentum 0.9) or `adamw`.
        lr: the peak learning rate (of the head, if the backbone has a rate of its own).
        backbone_lr: the peak learning rate of pretrained parameters; None for that of the others.
        weight_decay: of every parameter of two or more dimensions.
        warmup: the fraction of the steps in which the rate rises linearly; then it falls linearly to 0.
        clip: the gradient is clipped to this norm, taken over all parameters; 0 for no clipping.
        ema: decay per step of the averaged weights that are evaluated and kept; 0 turns averaging off. It is smaller
            in the first steps, so that a short training is not judged by its initial weights.
        seed: of initial weights, order and augmentation.

    Raises:
        ValueError: a setting is out of range.
    """

    epochs: int
    batch_size: int = 512
    optimizer: str = "sgd"
    lr: float = 0.4
    backbone_lr: float | None = None
    weight_decay: float = 5e-4
    warmup: float = 0.2
    clip: float = 0.0
    ema: float = 0.99
    seed: int = 0

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch_size < 1:
            raise ValueError(f"{self.epochs} epochs in batches of {self.batch_size}: a training needs one of each")
        if not 0 <= self.warmup < 1:
            raise ValueError(f"--warmup {self.warmup:g}: must be at least 0 and less than 1")
        if not 0 <= self.ema < 1:
            raise ValueError(f"--ema {self.ema:g}: must be at least 0 and less than 1")


@dataclass(slots=True)
class FitState:
    """What a checkpoint holds apart from tensors: the epochs done, their history and the best of them."""

    epoch: int = 0
    best_epoch: int = 0
    best_score: float = -1.0
    history: list[dict[str, float]] = field(default_factory=list)
    seconds: float = 0.0


def fit(
    model: nn.Module,
    task: Task,
    settings: FitSettings,
    folder: Path,
    *,
    accelerator: Accelerator,
    console: Console,
    resume: bool = False,
    origin: Mapping[str, Any] | None = None,
    keep: Literal["best", "last"] = "best",
    whole: bool = False,
) -> FitState:
    """Trains `model` and leaves it with the weights of the epoch that was best on the validation split.

    Every epoch seeds itself from `settings.seed` and its number, so a resumed run continues as if it had never
    stopped. Ctrl-C ends the training and keeps the best completed epoch. The model is left in evaluation mode.

    Args:
        model: the network.
        task: what it learns.
        settings: how.
        folder: receives `checkpoint.pt` after every epoch.
        accelerator: the device, the precision and the processes.
        console: where progress goes.
        resume: whether to continue from the folder's checkpoint.
        origin: what else determines the outcome (data, network, teacher), in plain JSON types; a checkpoint of
            another origin is not resumed.
        keep: which epoch's weights; `last` if there is no validation split to choose by.
        whole: whether a partial training is of no use, as when several are compared: Ctrl-C is then raised.

    Raises:
        ValueError: the checkpoint to resume was made with other settings or has another origin.
        KeyboardInterrupt: interrupted before the first epoch ended, or although a `whole` training is wanted.
    """
    checkpoint = folder / CHECKPOINT
    model.to(accelerator.device).to(memory_format=torch.channels_last)
    # Copied before `prepare`, which ties the forward pass of mixed precision to this very object.
    average = AveragedModel(model, multi_avg_fn=_averaging(settings.ema), use_buffers=True)
    wrapped, optimizer = accelerator.prepare(model, _optimizer(model, settings))
    state, best = FitState(), {}
    described: dict[str, Any] = json.loads(json.dumps({**asdict(settings), **(origin or {})}))
    if resume and checkpoint.is_file():
        saved = torch.load(checkpoint, map_location=accelerator.device, weights_only=True)
        if changed := _changed(saved["settings"], described):
            raise ValueError(f"{checkpoint} was made with other settings ({changed}). Use another --run-dir.")
        if {n: v.shape for n, v in saved["model"].items()} != {n: v.shape for n, v in model.state_dict().items()}:
            raise ValueError(f"{checkpoint} was made with another network. Use another --run-dir.")
        model.load_state_dict(saved["model"])
        average.load_state_dict(saved["average"])
        optimizer.load_state_dict(saved["optimizer"])
        if accelerator.scaler and saved.get("scaler"):
            accelerator.scaler.load_state_dict(saved["scaler"])
        state, best = FitState(**saved["state"]), saved["best"]
        console.print(f"Resuming after epoch {state.epoch} of {settings.epochs}.")

    try:
        while state.epoch < settings.epochs:
            started = time.perf_counter()
            task.begin(model, state.epoch, settings.epochs)
            record = _epoch(wrapped, average, optimizer, task, settings, state.epoch, accelerator, console)
            evaluated = average.module if settings.ema else model
            evaluated.eval()
            figures = task.validate(evaluated, accelerator)
            record |= {f"validation_{name}": value for name, value in figures.items()}
            state.seconds += time.perf_counter() - started
            state.epoch += 1
            state.history.append(record)
            if keep == "last" or figures[task.score] >= state.best_score:
                state.best_score, state.best_epoch = figures[task.score], state.epoch
                best = {name: value.clone() for name, value in evaluated.state_dict().items()}
            console.print(
                f"epoch {state.epoch:3d}/{settings.epochs}  "
                + "  ".join(f"{name} {value:.4g}" for name, value in record.items())
            )
            if accelerator.is_main_process:
                _save(
                    checkpoint,
                    {
                        "settings": described,
                        "model": model.state_dict(),
                        "average": average.state_dict(),
                        "optimizer": optimizer.state_dict(),
                        "scaler": accelerator.scaler.state_dict() if accelerator.scaler else None,
                        "state": asdict(state),
                        "best": best,
                    },
                )
    except KeyboardInterrupt:
        if whole or not best:
            raise
        console.print(f"[yellow]Stopped; epoch {state.best_epoch} is kept. Continue with --resume.")
    finally:
        accelerator.unwrap_model(wrapped, keep_fp32_wrapper=False)
    model.load_state_dict(best)
    model.eval()
    return state


def _epoch(
    wrapped: nn.Module,
    average: AveragedModel,
    optimizer: torch.optim.Optimizer,
    task: Task,
    settings: FitSettings,
    epoch: int,
    accelerator: Accelerator,
    console: Console,
) -> dict[str, float]:
    """One pass over the training items; returns its mean loss and figures, the learning rate and the throughput."""
    seed = settings.seed * 100_003 + epoch
    torch.manual_seed(seed + accelerator.process_index)  # dropout
    order = task.order(torch.Generator().manual_seed(seed), settings.batch_size)
    device = accelerator.device
    draw = Draw(
        torch.Generator(device).manual_seed(seed + accelerator.process_index), torch.Generator().manual_seed(seed)
    )
    steps = max(1, len(task) // settings.batch_size)
    wrapped.train()
    unwrapped = accelerator.unwrap_model(wrapped)
    sums: dict[str, Tensor] = {}
    seen = 0
    started = time.perf_counter()
    with ProgressBar(console, f"epoch {epoch + 1}/{settings.epochs}", steps, accelerator) as advance:
        for step in range(steps):
            batch = order[step * settings.batch_size :][: settings.batch_size]
            batch = batch[accelerator.process_index :: accelerator.num_processes]
            factor = schedule((epoch * steps + step) / (settings.epochs * steps), settings.warmup)
            for group in optimizer.param_groups:
                group["lr"] = group["peak_lr"] * factor
            with accelerator.autocast():
                loss, figures = task.loss(wrapped, batch, epoch, draw, device)
            accelerator.backward(loss)
            if settings.clip:
                accelerator.clip_grad_norm_(unwrapped.parameters(), settings.clip)
            optimizer.step()
            optimizer.zero_grad()
            if settings.ema:
                average.update_parameters(unwrapped)
            for name, value in {"loss": loss, **figures}.items():
                sums[name] = sums.get(name, torch.zeros((), device=device)) + value.detach().float() * len(batch)
            seen += len(batch)
            rate = seen * accelerator.num_processes / (time.perf_counter() - started)
            advance("  ".join(f"{n} {v.item() / seen:.3f}" for n, v in sums.items()) + f"  {rate:.0f} {task.unit}/s")
    if not math.isfinite(sums["loss"].item()):
        raise FloatingPointError(f"the loss became {sums['loss'].item()} in epoch {epoch + 1}: lower --lr")
    return {
        **{f"train_{name}": value.item() / seen for name, value in sums.items()},
        "lr": settings.lr * schedule((epoch + 1) / settings.epochs, settings.warmup),
        f"{task.unit}_per_second": rate,
    }


def _averaging(decay: float) -> Callable[[Sequence[Tensor], Sequence[Tensor], Tensor | int], None]:
    """An exponential moving average for `AveragedModel`, with a smaller decay in the first steps."""

    def average(averages: Sequence[Tensor], newest: Sequence[Tensor], count: Tensor | int) -> None:
        early = (1 + int(count)) / (10 + int(count))
        get_ema_multi_avg_fn(min(decay, early))(averages, newest, count)

    return average


def schedule(progress: float, warmup: float) -> float:
    """The learning rate's factor at `progress` (0 to 1) of the training: a linear rise, then a linear fall to 0."""
    return (progress + 1e-3) / (warmup + 1e-3) if progress < warmup else (1 - progress) / (1 - warmup)


def _optimizer(model: nn.Module, settings: FitSettings) -> torch.optim.Optimizer:
    """Groups: pretrained or not, with weight decay (matrices and filters) or without (biases, normalisation)."""
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            pretrained = settings.backbone_lr is not None and name.startswith("backbone.")
            lr = settings.backbone_lr if pretrained and settings.backbone_lr is not None else settings.lr
            decay = settings.weight_decay if parameter.ndim > 1 else 0.0
            groups.setdefault((lr, decay), []).append(parameter)
    params: list[dict[str, Any]] = [
        {"params": members, "lr": lr, "peak_lr": lr, "weight_decay": decay} for (lr, decay), members in groups.items()
    ]
    if settings.optimizer == "adamw":
        return torch.optim.AdamW(params)
    return torch.optim.SGD(params, momentum=0.9, nesterov=True)


def _changed(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Which settings differ, in words; empty if none do."""
    names = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    return ", ".join(f"{name} {before.get(name)}, now {now.get(name)}" for name in names)


def _save(path: Path, content: dict[str, Any]) -> None:
    """Writes a new file and then replaces the old checkpoint, so that a crash never leaves half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    torch.save(content, partial)
    os.replace(partial, path)
