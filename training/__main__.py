"""python -m training RECIPE: trains a model and exports it for the service."""

import argparse
import sys

from rich.console import Console

from service.inference.manifest import InvalidModel
from training.data import DataError
from training.export import ExportMismatch
from training.memory import keep_freed_memory
from training.recipes import autoencoder, classifier, detector, tabular, topics

RECIPES = {
    "classifier": classifier,
    "detector": detector,
    "autoencoder": autoencoder,
    "topics": topics,
    "tabular": tabular,
}


def main(argv: list[str] | None = None) -> int:
    """Runs a recipe.

    Returns:
        0; 1 if the data or a setting cannot be used (said in a line); 130 after Ctrl-C with nothing to keep.
    """
    parser = argparse.ArgumentParser(prog="python -m training", description=__doc__)
    recipes = parser.add_subparsers(dest="recipe", required=True)
    for name, module in RECIPES.items():
        module.add_arguments(recipes.add_parser(name, help=(module.__doc__ or name).splitlines()[0]))
    arguments = parser.parse_args(argv)
    keep_freed_memory()
    try:
        RECIPES[arguments.recipe].run(arguments, Console())
    except (DataError, InvalidModel, ExportMismatch, ValueError, FloatingPointError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped before the first epoch ended: nothing to keep", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
