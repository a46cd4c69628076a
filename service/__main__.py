"""python -m service: serves, or does what another command says.

Options are read before anything else is imported, so that help and mistakes are answered at once.
"""

import importlib
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from quartet.extras import needs
from service.options import make_parser

if TYPE_CHECKING:
    from service.tasks.registry import Registry


def main(
    registry: "Registry | None" = None, arguments: Sequence[str] | None = None, prog: str = "python -m service"
) -> int:
    """Runs a command.

    Args:
        registry: the tasks that are served, the built-in ones by default; with further ones, a module of your own is
            the service.
        arguments: of the command line; None for those of the process.
        prog: what is typed before the command.

    Returns:
        The exit code; what it means is in the command's module.
    """
    options = make_parser(prog).parse_args(arguments)
    for name, value in (("QUARTET_MODELS", options.models_folder), ("QUARTET_PORT", options.port)):
        if value is not None:
            os.environ[name] = value
    with needs("server"):
        command = importlib.import_module(f"service.commands.{options.command}")
        if registry is None:
            from service.tasks.registry import BUILT_IN

            registry = BUILT_IN
    code: int = command.run(registry, options)
    return code


if __name__ == "__main__":
    sys.exit(main())
