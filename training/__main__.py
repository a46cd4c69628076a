"""python -m training TASK: trains a model and exports it for the service. Further commands work on published models."""

import argparse
import shlex
import sys

from quartet.extras import needs

with needs("training"):
    from rich.console import Console

    from service.inference.manifest import InvalidModel
    from training import evaluate, quantize
    from training.autoencoder import recipe as autoencoder
    from training.classification import recipe as classification
    from training.data import DataError
    from training.detection import recipe as detection
    from training.export import ExportMismatch
    from training.memory import keep_freed_memory
    from training.tabular import recipe as tabular
    from training.text import recipe as text

RECIPES = {
    "classification": classification,
    "detection": detection,
    "autoencoder": autoencoder,
    "text": text,
    "tabular": tabular,
}
COMMANDS = {**RECIPES, "evaluate": evaluate, "quantize": quantize}


def main(argv: list[str] | None = None) -> int:
    """Runs a recipe or another command.

    Returns:
        0; 1 if the data or a setting cannot be used (one line says why); 130 after Ctrl-C, which evaluates and
        publishes nothing.
    """
    parser = argparse.ArgumentParser(prog="python -m training", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, module in COMMANDS.items():
        module.add_arguments(commands.add_parser(name, help=(module.__doc__ or name).splitlines()[0]))
    arguments = parser.parse_args(argv)
    keep_freed_memory()
    try:
        COMMANDS[arguments.command].run(arguments, Console())
    except (DataError, InvalidModel, ExportMismatch, ValueError, FloatingPointError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt as error:
        given = sys.argv[1:] if argv is None else argv
        command = shlex.join(given if getattr(arguments, "resume", True) else [*given, "--resume"])
        where = str(error) or "stopped"
        print(f"{where}; nothing was published. To go on: python -m training {command}", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
