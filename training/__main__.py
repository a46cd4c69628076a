"""python -m training COMMAND: trains a model and exports it for the service, or works on a published one.

Options are read before anything else is imported, so that help and mistakes are answered at once.
"""

import dataclasses
import os
import shlex
import sys
import traceback
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from quartet.console import MISUSED, as_typed, fail
from quartet.extras import needs

if TYPE_CHECKING:
    from rich.console import Console

# Libraries whose warnings are of no use to a user.
_QUIET = r"(torch|torchvision|timm|datasets|huggingface_hub|accelerate|onnxscript|onnx|sklearn|matplotlib)(\.|$)"


def main(arguments: Sequence[str] | None = None, prog: str = "python -m training") -> int:
    """Runs a command; with `prog="quartet"` also `quartet train` and `quartet inspect`.

    Returns:
        0; 1 if the data or a setting cannot be used (one line says why), if the user does not want to go on, or if
        anything fails after the training (a line says where its weights are); 2 for an unknown model; 130 after Ctrl-C,
        which evaluates and publishes nothing. A mistake on the command line exits with 2.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    # The threads of PyTorch sleep while they wait for the slowest of them. By default they spin, which takes the CPU
    # from that very thread if other processes are busy: `python -m benchmarks.threads`.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    with needs("training"):
        from training.command_line import read_command, read_data_command
        from training.registry import RECIPES
    if prog == "quartet" and given[0] in ("train", "inspect"):
        name, options = given[0], read_data_command(given[0], given[1:])
    else:
        name, options = read_command(given, prog)
    with needs("training"):
        from rich.console import Console

        from service.inference.manifest import InvalidModel
        from service.policy.file import InvalidPolicy, ReadOnly
        from training.data.dataset import DataError
        from training.data.hub import be_quiet
        from training.delivery import NotPublished, completing
        from training.engine.memory import keep_freed_memory
        from training.engine.processes import end_processes, is_main_process
        from training.export.graph import ExportMismatch
        from training.published_options import UnknownVersion
        from training.run import Declined
        from training.train import Unfinished
    run = getattr(options, "run", None)
    try:
        command = completing(options) if run is not None else None
    except ValueError as error:
        return _fail(str(error))
    if command:
        print(f"{run} has no draft yet: its training is complete, and is evaluated and exported now.")
        return main(*command)
    be_quiet()
    keep_freed_memory()
    # What a user can mend, and the message says how.
    mendable = (DataError, InvalidModel, InvalidPolicy, ReadOnly, ExportMismatch, ValueError, FloatingPointError)
    again = f"{prog} {shlex.join(given)}"
    typed = f"{as_typed(prog)} {shlex.join(given)}"
    resumed = typed if "--resume" in given or name not in ("train", *RECIPES) else f"{typed} --resume"
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=_QUIET)
            # Lines are wrapped for terminals, and not for files. Names of classes and files may have brackets.
            console = Console(quiet=not is_main_process(), soft_wrap=not sys.stdout.isatty(), markup=False)
            _run(name, options, console, again)
    except Declined:
        return _fail("nothing was trained.")
    except UnknownVersion as error:
        return fail(MISUSED, str(error))
    except NotPublished as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt as error:
        print(f"{str(error) or 'stopped'}; nothing was published. To go on: {resumed}", file=sys.stderr)
        return 130
    except Unfinished as error:
        if isinstance(error.__cause__, mendable):
            _fail(str(error.__cause__))
        else:
            traceback.print_exception(error.__cause__)
        print(
            f"The training itself is complete, and {error.checkpoint} keeps its weights. To evaluate, export and "
            f"publish them: {as_typed(prog)} publish {shlex.quote(str(error.checkpoint.parent))}",
            file=sys.stderr,
        )
        return 1
    except mendable as error:
        return _fail(str(error))
    end_processes()
    return 0


def _run(name: str, options: Any, console: "Console", again: str) -> None:
    from training.registry import RECIPES, recipe
    from training.train import inspect, train

    ask = False
    if name in ("train", "inspect"):
        from training.guide import options_for

        ask = name == "train" and not options.yes and sys.stdin.isatty() and sys.stdout.isatty()
        task, options = options_for(name, options)
        if name == "inspect":
            inspect(recipe(task), options, console)
            return
        name = task
    if name in RECIPES:
        train(recipe(name), options, console, command=again, ask=ask)
    elif name == "publish":
        _publish(options, console)
    else:
        from training.export import commands

        getattr(commands, name)(dataclasses.replace(options, command_line=again), console)


def _publish(options: Any, console: "Console") -> None:
    from training.delivery import publish_run

    publish_run(options.run, options, console, ask=sys.stdin.isatty() and sys.stdout.isatty())


def _fail(message: str) -> int:
    print(f"error: {message}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
