"""The training loop of every classifier: schedule, averaging, checkpoints that resume exactly, progress."""

import contextlib
import json
import math
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from rich.console import Console
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from training.augment import Augment, cutmix, to_pixels
from training.data import ImageSplit
from training.distill import loss_of, soften
from training.progress import ProgressBar

EVALUATION_BATCH = 500


@dataclass(frozen=True, slots=True)
class FitSettings:
    """How a network is trained.

    Attributes:
        epochs: passes over the training split.
        batch_size: images a step, over all devices together.
        optimizer: `sgd` (Nesterov momentum 0.9) or `adamw`.
        lr: the peak learning rate (of the head, where the backbone has a rate of its own).
        backbone_lr: the peak learning rate of pretrained parameters; None: as `lr`.
        weight_decay: of every parameter of two or more dimensions.
        warmup: the share of the steps in which the rate rises linearly; then it falls linearly to 0.
        label_smoothing: probability mass that is spread over all classes.
        ema: decay a step of the averaged weights that are evaluated and kept; 0 turns averaging off.
        distill: the weight of the teacher's answer in the loss, where there is a teacher; the label has the rest.
        distill_temperature: what softens the teacher's answer and the network's before they are compared.
        seed: of initial weights, order and augmentation.
    """

    epochs: int
    batch_size: int = 512
    optimizer: str = "sgd"
    lr: float = 0.4
    backbone_lr: float | None = None
    weight_decay: float = 5e-4
    warmup: float = 0.2
    label_smoothing: float = 0.1
    ema: float = 0.99
    distill: float = 0.7
    distill_temperature: float = 2.0
    seed: int = 0
    augment: Augment = field(default_factory=Augment)


@dataclass(slots=True)
class FitState:
    """What a checkpoint holds beside the tensors: the epochs done, their history and the best of them."""

    epoch: int = 0
    best_epoch: int = 0
    best_accuracy: float = -1.0
    history: list[dict[str, float]] = field(default_factory=list)
    seconds: float = 0.0


def fit(
    model: nn.Module,
    train: ImageSplit,
    validation: ImageSplit,
    settings: FitSettings,
    folder: Path,
    *,
    accelerator: Accelerator,
    console: Console,
    resume: bool = False,
    on_epoch: Callable[[float], None] | None = None,
    teacher: npt.NDArray[np.float32] | None = None,
    origin: Mapping[str, Any] | None = None,
) -> FitState:
    """Trains `model` and leaves in it the weights of the epoch that was best on `validation`.

    Every epoch seeds itself from `settings.seed` and its number, so a resumed run continues as if it had never
    stopped. Ctrl-C ends the training and keeps the best whole epoch.

    Args:
        model: takes float pixels (batch, channels, height, width) in 0 to 1, returns logits.
        train: the images to learn from.
        validation: the images that choose the epoch.
        settings: how.
        folder: receives `checkpoint.pt` after every epoch.
        accelerator: the device, the precision and the processes.
        console: where progress goes.
        resume: whether to continue from the folder's checkpoint.
        on_epoch: called before every epoch with the share of the training that is done.
        teacher: probabilities, shape (2, images, classes), that another network gives to each training image as it
            is and mirrored; see `training.distill`.
        origin: what else decides the outcome (data, network, teacher), in plain JSON types; a checkpoint of another
            origin is not resumed.

    Raises:
        ValueError: the checkpoint to resume was made with other settings or has another origin.
        KeyboardInterrupt: interrupted before the first epoch ended.
    """
    checkpoint = folder / "checkpoint.pt"
    model.to(accelerator.device).to(memory_format=torch.channels_last)
    # Copied before `prepare`, which ties the forward pass of mixed precision to this very object.
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(settings.ema), use_buffers=True)
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
        state, best = FitState(**saved["state"]), saved["best"]
        console.print(f"Resuming after epoch {state.epoch} of {settings.epochs}.")

    images = torch.from_numpy(train.images)
    labels = torch.from_numpy(train.labels)
    soft = None if teacher is None else soften(torch.from_numpy(teacher), settings.distill_temperature)
    try:
        while state.epoch < settings.epochs:
            started = time.perf_counter()
            if on_epoch:
                on_epoch(state.epoch / settings.epochs)
            record = _epoch(
                wrapped, average, optimizer, images, labels, soft, settings, state.epoch, accelerator, console
            )
            evaluated = average.module if settings.ema else model
            logits = predict(evaluated, validation.images, accelerator)
            record |= _score(logits, validation.labels)
            state.seconds += time.perf_counter() - started
            state.epoch += 1
            state.history.append(record)
            if record["validation_accuracy"] >= state.best_accuracy:
                state.best_accuracy, state.best_epoch = record["validation_accuracy"], state.epoch
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
                        "state": asdict(state),
                        "best": best,
                    },
                )
    except KeyboardInterrupt:
        if not best:
            raise
        console.print(f"[yellow]Stopped; epoch {state.best_epoch} is kept. Continue with --resume.")
    finally:
        accelerator.unwrap_model(wrapped, keep_fp32_wrapper=False)
    model.load_state_dict(best)
    return state


def _epoch(
    wrapped: nn.Module,
    average: AveragedModel,
    optimizer: torch.optim.Optimizer,
    images: Tensor,
    labels: Tensor,
    soft: Tensor | None,
    settings: FitSettings,
    epoch: int,
    accelerator: Accelerator,
    console: Console,
) -> dict[str, float]:
    """One pass over the training images; returns its mean loss, accuracy and rates."""
    seed = settings.seed * 100_003 + epoch
    torch.manual_seed(seed + accelerator.process_index)  # dropout
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    device = accelerator.device
    generator = torch.Generator(device).manual_seed(seed + accelerator.process_index)
    coin = torch.Generator().manual_seed(seed)
    steps = max(1, len(labels) // settings.batch_size)
    wrapped.train()
    unwrapped = accelerator.unwrap_model(wrapped)
    total, correct, seen = torch.zeros((), device=device), torch.zeros((), device=device), 0
    started = time.perf_counter()
    with ProgressBar(console, f"epoch {epoch + 1}/{settings.epochs}", steps, accelerator) as advance:
        for step in range(steps):
            batch = order[step * settings.batch_size :][: settings.batch_size]
            batch = batch[accelerator.process_index :: accelerator.num_processes]
            pixels = settings.augment(images[batch].to(device), batch.to(device), epoch, generator)
            target = labels[batch].to(device)
            answer = None if soft is None else soft[settings.augment.mirrored(batch, epoch).long(), batch].to(device)
            partner, kept = None, 1.0
            if settings.augment.cutmix and torch.rand((), generator=coin) < settings.augment.cutmix:
                pixels, partner, kept = cutmix(pixels, generator)
            factor = schedule((epoch * steps + step) / (settings.epochs * steps), settings.warmup)
            for group in optimizer.param_groups:
                group["lr"] = group["peak_lr"] * factor
            with accelerator.autocast():
                logits = wrapped(pixels)
            truth = F.one_hot(target, logits.shape[1]).float()
            if partner is not None:
                truth = truth.lerp(truth[partner], 1 - kept)
                answer = None if answer is None else answer.lerp(answer[partner], 1 - kept)
            loss = loss_of(
                logits.float(),
                truth,
                answer,
                label_smoothing=settings.label_smoothing,
                weight=settings.distill,
                temperature=settings.distill_temperature,
            )
            accelerator.backward(loss)
            optimizer.step()
            optimizer.zero_grad()
            if settings.ema:
                average.update_parameters(unwrapped)
            total += loss.detach() * len(batch)
            correct += (logits.detach().argmax(1) == target).sum()
            seen += len(batch)
            rate = seen * accelerator.num_processes / (time.perf_counter() - started)
            advance(f"loss {total.item() / seen:.3f}  accuracy {correct.item() / seen:.3f}  {rate:.0f} images/s")
    if not math.isfinite(total.item()):
        raise FloatingPointError(f"the loss became {total.item()} in epoch {epoch + 1}: lower --lr")
    return {
        "train_loss": total.item() / seen,
        "train_accuracy": correct.item() / seen,
        "lr": settings.lr * schedule((epoch + 1) / settings.epochs, settings.warmup),
        "images_per_second": rate,
    }


def schedule(progress: float, warmup: float) -> float:
    """The learning rate's factor at `progress` (0 to 1) of the training: a linear rise, then a linear fall to 0."""
    return (progress + 1e-3) / (warmup + 1e-3) if progress < warmup else (1 - progress) / (1 - warmup)


@torch.no_grad()
def predict(
    model: nn.Module, images: npt.NDArray[np.uint8], accelerator: Accelerator | None = None
) -> npt.NDArray[np.float32]:
    """Logits, shape (n, classes), of uint8 images, shape (n, height, width, channels), without augmentation.

    With an accelerator on its device and in its precision, otherwise where the model is, in its own.
    """
    model.eval()
    device = next(model.parameters()).device
    logits = []
    for start in range(0, len(images), EVALUATION_BATCH):
        batch = torch.from_numpy(images[start : start + EVALUATION_BATCH]).to(device)
        with accelerator.autocast() if accelerator else contextlib.nullcontext():
            logits.append(model(to_pixels(batch)).float().cpu())
    return torch.cat(logits).numpy()


def _score(logits: npt.NDArray[np.float32], labels: npt.NDArray[np.int64]) -> dict[str, float]:
    outputs, target = torch.from_numpy(logits), torch.from_numpy(labels)
    return {
        "validation_loss": F.cross_entropy(outputs, target).item(),
        "validation_accuracy": (outputs.argmax(1) == target).float().mean().item(),
    }


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
    """Which settings differ, in words; empty if none does."""
    names = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    return ", ".join(f"{name} {before.get(name)}, now {now.get(name)}" for name in names)


def _save(path: Path, content: dict[str, Any]) -> None:
    """Writes beside the old checkpoint and then replaces it, so that a crash never leaves half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    torch.save(content, partial)
    os.replace(partial, path)
