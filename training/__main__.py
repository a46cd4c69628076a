"""python -m training TASK: trains a model and exports it for the service.

Options are read before anything else is imported, so that help and mistakes are answered at once.
"""

import importlib
import shlex
import sys
import traceback
import warnings
from argparse import Namespace
from collections.abc import Sequence

from quartet.extras import needs
from training.command_line import RECIPES, check, read_data_command, training_parser

# Libraries whose warnings say nothing to whoever trains.
_QUIET = r"(torch|torchvision|timm|datasets|huggingface_hub|accelerate|onnxscript|onnx|sklearn|matplotlib)(\.|$)"


def main(arguments: Sequence[str] | None = None, prog: str = "python -m training") -> int:
    """Trains, or with `prog="quartet"` does what `quartet train` and `quartet inspect` say.

    Args:
        arguments: of the command line; None for those of the process.
        prog: what is typed before them.

    Returns:
        0; 1 if the data or a setting cannot be used (one line says why), if the user does not want to go on, or if
        anything fails after the training (a line says where its weights are); 130 after Ctrl-C, which evaluates and
        publishes nothing.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    if prog == "quartet" and given[0] in ("train", "inspect"):
        name, *rest = given
        command = read_data_command(name, rest)
        with needs("training"):
            from training.data.hub import be_quiet
            from training.guide import arguments_for
        be_quiet()
        try:
            options = arguments_for(name, command)
        except _failures() as error:
            return _fail(str(error))
    else:
        options = training_parser(prog).parse_args(given)
    try:
        check(options)
    except ValueError as error:
        return _fail(str(error))
    return _run(options, f"{prog} {shlex.join(given)}")


def _run(options: Namespace, again: str) -> int:
    """Runs a recipe, or what is done with a published model.

    Args:
        options: of its command line.
        again: the command that was given.
    """
    with needs("training"):
        from rich.console import Console

        from training.data.hub import be_quiet
        from training.engine.memory import keep_freed_memory
        from training.engine.processes import end_processes, is_main_process
        from training.old_run import Declined, Inspected

        module = f"training.{options.task}.recipe" if options.task in RECIPES else f"training.export.{options.task}"
        command = importlib.import_module(module)
    be_quiet()
    keep_freed_memory()
    options.command_line = again  # for the record in the manifest
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=_QUIET)
            command.run(options, Console(quiet=not is_main_process()))
    except Inspected:
        return 0
    except Declined:
        return _fail("nothing was trained.")
    except KeyboardInterrupt as error:
        where = str(error) or "stopped"
        print(f"{where}; nothing was published. To go on: {_resumed(options, again)}", file=sys.stderr)
        return 130
    except Exception as error:
        trained = getattr(options, "trained", None)
        if isinstance(error, _failures()):
            _fail(str(error))
        elif trained:
            traceback.print_exc()
        else:
            raise
        if trained:
            print(
                f"The training itself is complete, and {trained} keeps its weights. To evaluate and export them: "
                f"{_resumed(options, again)}",
                file=sys.stderr,
            )
        return 1
    end_processes()
    return 0


def _resumed(options: Namespace, again: str) -> str:
    """The command that was given, with `--resume` if the recipe has it."""
    return again if getattr(options, "resume", True) else f"{again} --resume"


def _failures() -> tuple[type[Exception], ...]:
    """What a user can mend, and a line says how."""
    from service.inference.manifest import InvalidModel
    from service.policy.file import InvalidPolicy, ReadOnly
    from training.data.dataset import DataError
    from training.export.graph import ExportMismatch

    return DataError, InvalidModel, InvalidPolicy, ReadOnly, ExportMismatch, ValueError, FloatingPointError


def _fail(message: str) -> int:
    print(f"error: {message}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
