"""The start of a training: options, device and precision are checked, and the data is read."""

import dataclasses
import re
import shlex
import time
from functools import partial
from pathlib import Path

import torch
from accelerate import Accelerator
from rich.console import Console

from quartet.console import as_typed
from service.inference.cards import NAME_PATTERN
from training.data.added import read_captures
from training.engine.checkpoint import recorded_settings
from training.engine.interrupts import Stopped
from training.engine.precision import choose_precision
from training.engine.processes import is_main_process, process_count
from training.engine.threads import set_threads
from training.engine.tracking import tracker
from training.export.gate import Gate
from training.export.lineage import Lineage
from training.export.publish import check_name, drafts_of, lacking, published_as
from training.options import Options
from training.recipe import DataT, OptionsT, Recipe
from training.run import Declined, Run

_PRECISIONS = {"float32": "no", "bfloat16": "bf16", "float16": "fp16"}


def start(
    recipe: Recipe[OptionsT, DataT], options: OptionsT, console: Console, *, ask: bool = False
) -> Run[OptionsT, DataT]:
    """Checks the options, the name and the device, then loads the data and says what was found in it.

    Raises:
        ValueError: one of them cannot be used, or a training that was stopped would be replaced.
        DataError: the data set cannot be used.
        Declined: the user does not want to replace it.
        Stopped: Ctrl-C.
    """
    started = time.perf_counter()
    options.check()
    name = options.name or recipe.model_name(options)
    if not re.fullmatch(NAME_PATTERN, name):
        raise ValueError(f"--name {name!r}: only letters, digits, dots, dashes and underscores are allowed")
    check_device(options)
    if options.fit.lr == "find":
        options, found = dataclasses.replace(options, fit=dataclasses.replace(options.fit, lr=None)), True
    else:
        found = False
    if line := set_threads(options.threads):
        console.print(line, highlight=False)
    try:
        data, folder = load(recipe, options)
    except KeyboardInterrupt:
        raise Stopped("stopped", "data loading") from None
    lineage = Lineage.of(folder, options.init_from, getattr(options, "teacher", None), resume=options.resume)
    models = options.publishing.models
    if not options.resume and not options.publishing.yes:
        _check_earlier(folder, data.fingerprint, models, console, ask=ask)
    if is_main_process():
        show(recipe, data, folder, console)
    check = partial(check_name, models, name, getattr(data, "classes", ()), given=options.name is not None)
    if options.publish:
        check()
        Gate.of(options.publishing).check(name)
    else:
        try:
            check()
        except ValueError as error:
            console.print(f"It could not be published: {error}", style="yellow", highlight=False)
    if (options.cross_validate or 0) > (items := len(data.train) + len(data.validation)):
        raise ValueError(f"--cross-validate {options.cross_validate}: there are only {items} {recipe.items} to divide")
    asked = options
    options, lines = recipe.choose(options, data)
    for line in lines:
        console.print(line, highlight=False, soft_wrap=True)
    options = _choose_precision(recipe, options, data, folder, console)
    accelerator = make_accelerator(options)
    if options.cross_validate and accelerator.num_processes > 1:
        raise ValueError("--cross-validate runs in one process: leave it out")
    console.print(
        f"{data.name}: {len(data.train)} training, {len(data.validation)} validation and {len(data.test)} test "
        f"{recipe.items}{recipe.describe(data)}; on {accelerator.device}"
    )
    return Run(
        options=options,
        asked=asked,
        console=console,
        name=name,
        data=data,
        settings=recipe.settings(options, data),
        folder=folder,
        accelerator=accelerator,
        lineage=lineage,
        started=started,
        find_rate=found,
        folds=bool(options.cross_validate) and not recipe.cross_validates,
    )


def _check_earlier(folder: Path, fingerprint: str, models: Path, console: Console, *, ask: bool) -> None:
    """Asks before a training is replaced that has no other copy; raises ValueError where nobody can be asked."""
    if earlier := lacking(folder):
        found, instead = f"a training that {earlier}", "continue it with --resume, "
    elif _is_only_copy(folder, fingerprint, models):
        found = "an unpublished model of other data"
        instead = f"publish it with {as_typed()} publish {shlex.quote(str(folder))}, "
    else:
        return
    if not ask or process_count() > 1:
        raise ValueError(f"{folder} holds {found}: {instead}choose another --run-dir, or replace it with --yes.")
    console.print(f"{folder} holds {found}: {instead}or replace it.", highlight=False)
    if console.input("Replace it? [y/N] ").strip().lower() not in ("y", "yes"):
        raise Declined


def _is_only_copy(folder: Path, fingerprint: str, models: Path) -> bool:
    """Whether a run holds a draft that is not published, and was trained on other data."""
    trained_on = recorded_settings(folder).get("data", fingerprint)
    return trained_on != fingerprint and any(not published_as(models, draft) for draft in drafts_of(folder))


def _choose_precision(
    recipe: Recipe[OptionsT, DataT], options: OptionsT, data: DataT, folder: Path, console: Console
) -> OptionsT:
    """The options with a precision in place of `auto`; with --resume that of the checkpoint."""
    if options.precision != "auto":
        return options
    earlier = recorded_settings(folder).get("precision") if options.resume else None
    if earlier in _PRECISIONS:
        return dataclasses.replace(options, precision=earlier)
    cuda = torch.cuda.is_available() and options.device != "cpu"
    precision, because = choose_precision("cuda" if cuda else "cpu", recipe.fast_precision(options, data))
    if because:
        console.print(f"precision: {precision}, since {because}; --precision float32 overrides this", highlight=False)
    return dataclasses.replace(options, precision=precision)


def check_device(options: Options) -> None:
    """Raises ValueError if this machine lacks the device or the precision that were asked for."""
    device, precision = options.device, options.precision
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", device):
        raise ValueError(f"--device {device}: must be auto, cpu, cuda or cuda:N")
    if precision == "float16" and (device == "cpu" or not torch.cuda.is_available()):
        raise ValueError("--precision float16 needs a GPU; on a CPU use bfloat16 or float32")
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise ValueError(f"--device {device}: PyTorch finds no CUDA device here; use --device cpu")
    _, _, index = device.partition(":")
    if index and int(index) >= torch.cuda.device_count():
        raise ValueError(f"--device {device}: this machine has {torch.cuda.device_count()} CUDA devices")
    tracker(options.track)


def make_accelerator(options: Options) -> Accelerator:
    """The device and the precision that were asked for, after `check_device`."""
    _, _, index = options.device.partition(":")
    if index:
        torch.cuda.set_device(int(index))
    return Accelerator(
        cpu=options.device == "cpu",
        mixed_precision=_PRECISIONS[options.precision],
        log_with=tracker(options.track),
        project_dir="runs",
    )


def load(recipe: Recipe[OptionsT, DataT], options: OptionsT) -> tuple[DataT, Path]:
    """The data set, named as in the report, and the folder of the run."""
    data = recipe.load(options)
    if options.add:
        data = recipe.add(data, read_captures(options.add, options.name or recipe.model_name(options)))
    data = dataclasses.replace(data, name=options.data_name or data.name)
    return data, options.run_dir or Path("runs") / f"{recipe.run_name(options)}-{data.name.replace('/', '-')}"


def show(recipe: Recipe[OptionsT, DataT], data: DataT, folder: Path, console: Console) -> None:
    """Says what was found in a data set, and draws some of it into the folder of the run."""
    data.inspection.print(console)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        recipe.draw(data).save(folder / "samples.png")
    except OSError as error:
        raise ValueError(f"{folder} cannot be written ({error.strerror}): choose another --run-dir.") from None
    console.print(f"samples: {folder / 'samples.png'}", highlight=False, soft_wrap=True)
