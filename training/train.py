"""The steps that every recipe takes, from its options to published versions."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from rich.console import Console
from torch import nn

from training import cross_validation
from training.delivery import NotPublished, deliver, remembered
from training.engine.checkpoint import FitState
from training.engine.interrupts import Stopped
from training.engine.processes import from_main
from training.engine.progress import duration
from training.engine.weights import CHECKPOINT, inner_weights, start_from
from training.export.quantize import CALIBRATION
from training.phases import Work
from training.recipe import DataT, Draft, OptionsT, Recipe
from training.run import Run, as_served
from training.start import load, show, start

# What the variants of --quantize cost: to read ranges takes as long as so many answers; beside the answers, in seconds.
_READ_FOR_RANGES, _VARIANT_SECONDS = 4, 20


class Unfinished(Exception):
    """Something failed after the training was complete: the cause says what, and `checkpoint` keeps the weights."""

    def __init__(self, checkpoint: Path) -> None:
        super().__init__(str(checkpoint))
        self.checkpoint = checkpoint


def train(
    recipe: Recipe[OptionsT, DataT], options: OptionsT, console: Console, *, command: str = "", ask: bool = False
) -> None:
    """Trains, evaluates, and publishes if that is asked for; `command` and `ask` are as in `Run`.

    Raises:
        DataError: the data set cannot be used.
        Declined: the user does not want to go on.
        NotPublished: the model is worse than its baseline, and nobody confirmed that it is to be published.
        Stopped: Ctrl-C.
        Unfinished: something failed after the training.
        ValueError: an option cannot be used here.
    """
    run = start(recipe, options, console, ask=ask)
    run.command, run.ask = command, ask
    with remembered(run.folder, command):
        network, state = _train(recipe, run)
    if run.baseline and run.from_baseline and not state.best_epoch:
        console.print(f"No epoch is better than the baseline, {run.baseline.name}: the model is that.", highlight=False)
    try:
        drafts = recipe.drafts(run, network, state)
        if run.folds:
            make = partial(_make, type(recipe))
            run.cross_validate = partial(cross_validation.cross_validate, run, make, state.seconds)
        if run.is_main:
            deliver(run, drafts)
    except (NotPublished, Stopped):
        raise
    except KeyboardInterrupt:
        raise Stopped("stopped", "evaluation") from None
    except Exception as error:
        raise Unfinished(run.folder / CHECKPOINT) from error


def _train(recipe: Recipe[OptionsT, DataT], run: Run[OptionsT, DataT]) -> tuple[nn.Module, FitState]:
    """Builds and trains a network; returns it as it is served."""
    network = recipe.build(run)
    if run.options.init_from:
        start_from(network, run.options.init_from)
    _fit_baseline(recipe, run, network)
    run.work, run.advice = [*recipe.work(run), *_variants(run)], recipe.advice(run)
    trained = recipe.training_network(run, network)
    state = run.fit(trained, recipe.learner(run, trained), recipe.origin(run))
    if trained is not network:
        network.load_state_dict(inner_weights(trained.state_dict()))
    return as_served(network), state


def _variants(run: Run[OptionsT, DataT]) -> list[Work]:
    """What --quantize adds: two graphs answer the validation split, a variant answers test, and its ranges are read."""
    if not run.options.quantize:
        return []
    data = run.data
    items = 2 * len(data.validation) + len(data.test) + _READ_FOR_RANGES * min(CALIBRATION, len(data.train))
    return [Work(name="variants", items=items, seconds=_VARIANT_SECONDS)]


def _make(kind: type[Recipe[OptionsT, DataT]], run: Run[OptionsT, DataT]) -> Sequence[Draft]:
    """The versions of another training; the recipe is a new one, without what it remembers of the first."""
    recipe = kind()
    return recipe.drafts(run, *_train(recipe, run))


def _fit_baseline(recipe: Recipe[OptionsT, DataT], run: Run[OptionsT, DataT], network: nn.Module) -> None:
    """Fits the baseline in the main process; the others wait, and get the weights that it set."""
    if run.is_main:
        with run.phase("baseline"):
            found = run.baseline = recipe.baseline(run, network)
        if found:
            seconds = run.phases.seconds["baseline"]
            run.console.print(
                f"baseline, {found.name}: validation {found.figure} {found.validation:.4f} ({duration(seconds)}, "
                f"{found.items:,} training {recipe.items})",
                highlight=False,
            )
    run.from_baseline = from_main(run.accelerator, run.baseline is not None and run.baseline.starts)
    network.load_state_dict(from_main(run.accelerator, network.state_dict()))


def inspect(recipe: Recipe[OptionsT, DataT], options: OptionsT, console: Console) -> None:
    """Says what is in a data set and draws some of it; raises DataError if it cannot be used."""
    data, folder = load(recipe, options)
    show(recipe, data, folder, console)
    if data.inspection.dropped:
        console.print("A training refuses what was left out here, unless --bad drop is given.")
