"""The training loop of every network: schedule, weight averaging, checkpoints that resume exactly, progress.

What a network learns is a `Learner`; how it learns is here.
"""

import json
import math
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast
from rich.console import Console
from torch import Tensor, nn

from training.engine import checkpoint
from training.engine.checkpoint import FitState
from training.engine.interrupts import Interrupted, Interrupts, Stopped
from training.engine.learner import Batch, Learner, Step
from training.engine.loader import batches, worker_count
from training.engine.optimizer import Average, make_optimizer, schedule
from training.engine.processes import from_main, synchronise_norms
from training.engine.progress import Bar, describe_epoch, progress_bar, validation_figures
from training.engine.settings import FitSettings
from training.engine.streams import Stream, generator, seed_of
from training.engine.weights import CHECKPOINT

# After this many steps or seconds, the duration of the training is estimated.
_FIRST_STEPS, _FIRST_SECONDS = 10, 5.0
# Of more epochs than this, one that is over so many seconds after the last line has no line of its own.
_ALL_TOLD, _TOLD_SECONDS = 20, 0.5


class Watch(Protocol):
    """An observer of a training."""

    def estimate(self, spent: float, left: float, validation: float) -> None:
        """Called once, after the first steps; may raise to end the training.

        Args:
            spent: seconds that the training has taken, before it was resumed too.
            left: seconds that the rest of it will take.
            validation: seconds that a pass over the validation items takes.
        """

    def epoch(self, number: int, figures: Mapping[str, float]) -> None:
        """Called after every epoch, counted from 1, with its figures."""


def fit(
    model: nn.Module,
    learner: Learner,
    settings: FitSettings,
    folder: Path,
    *,
    accelerator: Accelerator,
    console: Console,
    resume: bool = False,
    origin: Mapping[str, Any] | None = None,
    keep: Literal["best", "last"] = "best",
    from_initial: bool = False,
    watch: Watch | None = None,
    workers: int | None = None,
    title: str = "",
) -> FitState:
    """Trains `model` and leaves it in evaluation mode, with the weights of the best epoch on the validation split.

    Every step seeds its random numbers from `settings.seed`, the epoch and its own number (`training.engine.streams`),
    so a resumed run continues as if it had never stopped. Ctrl-C writes a checkpoint after the current step and ends
    the training; with several processes it ends them at once, and the checkpoint of the last epoch remains.

    Several processes share each batch: gradients, batch normalisation and figures are those of the whole batch. All
    processes use the validation figures and, in the end, the weights of the main process.

    Args:
        model: the network.
        learner: what it learns.
        settings: how it learns.
        folder: receives `checkpoint.pt` after every epoch.
        accelerator: the device, the precision and the processes.
        console: where progress goes.
        resume: whether to continue from the checkpoint in `folder`.
        origin: what else determines the outcome (data, network, teacher), in plain JSON types; a checkpoint of
            another origin is not resumed.
        keep: which weights; `last` if there is no validation split to choose by.
        from_initial: whether the initial weights count as epoch 0, and are kept unless an epoch is better.
        watch: the observer.
        workers: processes that read batches ahead; by default as many as help.
        title: of one training of several; their epochs have a bar at a terminal, but no lines.

    Raises:
        ValueError: the checkpoint has other settings or another origin; or a batch has fewer items than there are
            processes.
        FloatingPointError: the loss is no longer a number.
        Stopped: Ctrl-C.
    """
    smallest = min(settings.batch_size, len(learner))
    if smallest < accelerator.num_processes:
        raise ValueError(f"a batch of {smallest} is too small for {accelerator.num_processes} processes")
    described: dict[str, Any] = json.loads(json.dumps({**asdict(settings), **(origin or {})}))
    readers, path = worker_count(workers, learner, accelerator.device), folder / CHECKPOINT
    training = _Training(model, learner, settings, accelerator, console, path, described, watch, readers, title)
    if resume:
        training.resume()
    try:
        with Interrupts(active=accelerator.num_processes == 1) as interrupts:
            try:
                training.run(interrupts, keep, from_initial=from_initial)
            except Interrupted:
                with interrupts.held():
                    training.save()
                raise Stopped(training.position) from None
    finally:
        accelerator.unwrap_model(training.wrapped, keep_fp32_wrapper=False)
        # It would keep every model and optimizer that it has prepared.
        accelerator.free_memory()
    model.load_state_dict(broadcast(training.best))
    model.eval()
    return training.state


class _Training:
    """A training in progress.

    Attributes:
        state: how far it is.
        best: the weights of the best epoch so far; empty before the first.
        wrapped: the model with what accelerate adds.
    """

    def __init__(
        self,
        model: nn.Module,
        learner: Learner,
        settings: FitSettings,
        accelerator: Accelerator,
        console: Console,
        path: Path,
        described: Mapping[str, Any],
        watch: Watch | None,
        workers: int,
        title: str,
    ) -> None:
        self._learner, self._settings, self._accelerator, self._console = learner, settings, accelerator, console
        self._path, self._described, self._watch, self._workers = path, described, watch, workers
        self._title = title
        model.to(accelerator.device).to(memory_format=torch.channels_last)
        self._model = synchronise_norms(model, accelerator)
        # Copied before `prepare`, which ties the forward pass of mixed precision to this very object.
        self._average = Average(self._model, settings.ema)
        optimizer = make_optimizer(
            self._model, settings.optimizer, settings.lr, settings.backbone_lr, settings.weight_decay
        )
        self.wrapped, self._optimizer = accelerator.prepare(self._model, optimizer)
        self._evaluated = self._average.module if settings.ema else self._model
        self._steps = max(1, len(learner) // settings.batch_size)
        # On the device: reading them would wait for it.
        self._sums: dict[str, Tensor] = {}
        self.state, self.best = FitState(), dict[str, Tensor]()
        self._estimated, self._taken, self._since = watch is None, 0, time.perf_counter()
        self._told = -math.inf

    @property
    def position(self) -> str:
        """Where it was stopped, in words."""
        state, epochs = self.state, self._settings.epochs
        if state.epoch == epochs:
            return f"stopped after the last of {epochs} epochs"
        return f"stopped in epoch {state.epoch + 1} of {epochs}, after {state.step} of its {self._steps} steps"

    def run(self, interrupts: Interrupts, keep: Literal["best", "last"], *, from_initial: bool) -> None:
        """Trains to the end; Ctrl-C waits for the end of a step, and for the checkpoint."""
        state, settings = self.state, self._settings
        if not state.initial and not state.epoch:
            state.initial = self._validate()
            score = state.initial[self._learner.score]
            if from_initial and math.isfinite(score):
                self._keep(score)
        while state.epoch < settings.epochs and not 0 < settings.patience <= state.epoch - state.improved_epoch:
            record = self._epoch(interrupts)
            started = time.perf_counter()
            figures = self._validate()
            with interrupts.held():
                state.seconds += state.step_seconds + time.perf_counter() - started
                self._end_epoch(record, figures, keep)
                self.save()
        if state.epoch < settings.epochs and not self._title:
            self._console.print(
                f"No better {self._learner.score} in {settings.patience} epochs: the training ends here, with the "
                f"weights of epoch {state.best_epoch}."
            )

    def save(self) -> None:
        """Writes the checkpoint in the main process; the others wait, so that all can resume from it."""
        if self._accelerator.is_main_process:
            self._write()
        self._accelerator.wait_for_everyone()

    def _write(self) -> None:
        self.state.sums = {name: value.item() for name, value in self._sums.items()}
        scaler = self._accelerator.scaler
        content = {
            "settings": self._described,
            "model": self._model.state_dict(),
            "average": self._average.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "scaler": scaler.state_dict() if scaler else None,
            "state": asdict(self.state),
            "best": self.best,
        }
        checkpoint.write(self._path, content)

    def resume(self) -> None:
        """Continues from the checkpoint, if there is one.

        Raises:
            ValueError: it was made with other settings (except for epochs that are not over, and another patience) or
                with another network.
        """
        path, device, epochs = self._path, self._accelerator.device, self._settings.epochs
        if not path.is_file():
            self._console.print(f"{path} does not exist: there is nothing to resume, the training starts anew.")
            return
        saved = checkpoint.read(path, self._described, self._model, device)
        self._model.load_state_dict(saved["model"])
        self._average.load_state_dict(saved["average"])
        self._optimizer.load_state_dict(saved["optimizer"])
        if self._accelerator.scaler and saved.get("scaler"):
            self._accelerator.scaler.load_state_dict(saved["scaler"])
        state = self.state = FitState(**{"improved_epoch": saved["state"]["best_epoch"], **saved["state"]})
        state.resumed.append(state.epoch)
        self._sums = {name: torch.tensor(value, device=device) for name, value in state.sums.items()}
        self.best = saved["best"]
        within = f", {state.step} steps into the next" if state.step else ""
        self._console.print(f"Resuming after epoch {state.epoch} of {epochs}{within}.")
        before = saved["settings"]["epochs"]
        if epochs != before and 0 < state.epoch < epochs:
            self._console.print(
                f"The learning rate follows the schedule of {epochs} epochs from here on, not that of {before}."
            )

    def _validate(self) -> dict[str, float]:
        """The figures on the validation split of the weights that would be kept now."""
        started = time.perf_counter()
        figures = from_main(self._accelerator, self._learner.validate(self._evaluated.eval(), self._accelerator))
        self.state.validation_seconds = time.perf_counter() - started
        return figures

    def _epoch(self, interrupts: Interrupts) -> dict[str, float]:
        """What is left of the epoch; returns its mean loss and figures, the learning rate and the throughput."""
        learner, settings, state, accelerator = self._learner, self._settings, self.state, self._accelerator
        learner.begin(self._model, state.epoch, settings.epochs)
        order = learner.order(generator(Stream.ORDER, settings.seed, state.epoch), settings.batch_size)
        whole = order.split(settings.batch_size)[: self._steps]
        read = batches(
            learner,
            [each[accelerator.process_index :: accelerator.num_processes] for each in whole],
            seed=settings.seed,
            epoch=state.epoch,
            first=state.step,
            workers=self._workers,
            accelerator=accelerator,
        )
        self.wrapped.train()
        started = time.perf_counter() - state.step_seconds
        title = f"{self._title}  epoch {state.epoch + 1}/{settings.epochs}".strip()
        with progress_bar(self._console, title, self._steps, state.step, accelerator) as bar:
            for items, batch in read:
                with interrupts.held():
                    self._step(items, batch)
                    state.step_seconds = time.perf_counter() - started
                # The time in which the user thinks about the estimate is not counted.
                started += self._estimate(bar)
                bar.advance(self._status)
        sums: dict[str, Tensor] = accelerator.reduce(self._sums, "mean")
        means = {f"train_{name}": value.item() / state.items for name, value in sums.items()}
        if not math.isfinite(means["train_loss"]):
            instead = f", or keep the best epoch so far with --resume --epochs {state.epoch}" if state.epoch else ""
            raise FloatingPointError(
                f"the loss became {means['train_loss']} in epoch {state.epoch + 1}: lower --lr{instead}"
            )
        lr = settings.lr * schedule((state.epoch + 1) / settings.epochs, settings.warmup)
        return {**means, "lr": lr, f"{learner.unit}_per_second": self._rate}

    def _step(self, items: Tensor, batch: Batch) -> None:
        settings, state, accelerator = self._settings, self.state, self._accelerator
        process, processes = accelerator.process_index, accelerator.num_processes
        done = state.epoch * self._steps + state.step
        count = min(settings.batch_size, len(self._learner))
        # Gradients are averaged over the processes; with this weight their mean is that of the whole batch.
        weight = len(items) * processes / count
        at = (settings.seed, state.epoch, state.step)
        torch.manual_seed(seed_of(Stream.DROPOUT, *at, process))
        rng = generator(Stream.LOCAL, *at, process, device=accelerator.device)
        step = Step(items, state.epoch, accelerator.device, rng, generator(Stream.SHARED, *at))
        factor = schedule(done / (settings.epochs * self._steps), settings.warmup)
        for group in self._optimizer.param_groups:
            group["lr"] = group["peak_lr"] * factor
        with accelerator.autocast():
            loss, figures = self._learner.loss(self.wrapped, batch, step)
        accelerator.backward(loss * weight)
        if settings.clip:
            accelerator.clip_grad_norm_(self._model.parameters(), settings.clip)
        self._optimizer.step()
        self._optimizer.zero_grad()
        if settings.ema:
            self._average.update(self._model, done)
        for name, value in {"loss": loss, **figures}.items():
            total = value.detach().float() * (weight * count)
            self._sums[name] = self._sums[name] + total if name in self._sums else total
        state.items += count
        state.step += 1

    @property
    def _rate(self) -> float:
        """Items per second, of all processes."""
        return self.state.items / max(self.state.step_seconds, 1e-9)

    @property
    def _seconds_left(self) -> float:
        state, epochs = self.state, self._settings.epochs
        steps = (epochs - state.epoch) * self._steps - state.step
        return steps * state.step_seconds / max(state.step, 1) + (epochs - state.epoch) * state.validation_seconds

    def _estimate(self, bar: Bar) -> float:
        """Reports once, after a few steps, how long the training will take; returns the seconds that this took."""
        self._taken += 1
        early = self._taken < _FIRST_STEPS and time.perf_counter() - self._since < _FIRST_SECONDS
        if self._estimated or early or not self._watch:
            return 0.0
        self._estimated = True
        began = time.perf_counter()
        with bar.hidden():
            state = self.state
            self._watch.estimate(state.seconds + state.step_seconds, self._seconds_left, state.validation_seconds)
        return time.perf_counter() - began

    def _status(self) -> dict[str, float]:
        """What the progress line shows."""
        figures = {"loss": self._sums["loss"].item() / self.state.items}
        if self.state.history:
            name, value = next(iter(validation_figures(self.state.history[-1], self._learner.score).items()))
            figures["validation loss" if name == "loss" else name] = value
        return {**figures, f"{self._learner.unit}/s": self._rate, "left": self._seconds_left}

    def _end_epoch(self, record: dict[str, float], figures: dict[str, float], keep: Literal["best", "last"]) -> None:
        """Records the figures of an epoch, and keeps its weights if they are the best so far."""
        state, learner = self.state, self._learner
        record |= {f"validation_{name}": value for name, value in figures.items()}
        state.epoch, state.step, state.items, state.step_seconds = state.epoch + 1, 0, 0, 0.0
        self._sums.clear()
        state.history.append(record)
        score = figures[learner.score]
        if not math.isfinite(score):
            self._console.print(
                f"The validation split gives the {learner.score} {score} in epoch {state.epoch}, which is kept only if "
                "no epoch does better.",
                style="yellow",
            )
            score = -math.inf
        if score > state.best_score or state.epoch == 1:
            state.improved_epoch = state.epoch
        if keep == "last" or score >= state.best_score:
            self._keep(score)
        epochs, now = self._settings.epochs, time.perf_counter()
        told = epochs <= _ALL_TOLD or state.epoch in (1, epochs) or now - self._told > _TOLD_SECONDS
        if told and not self._title:
            self._told = now
            width = self._console.width
            line = describe_epoch(state.epoch, epochs, record, learner.score, learner.unit, width)
            self._console.print(line, highlight=False)
        if self._watch:
            self._watch.epoch(state.epoch, record)

    def _keep(self, score: float) -> None:
        """Keeps the weights that were just evaluated as the best so far."""
        self.state.best_score, self.state.best_epoch = score, self.state.epoch
        self.best = {name: value.clone() for name, value in self._evaluated.state_dict().items()}
