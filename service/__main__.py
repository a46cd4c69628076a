"""python -m service: serves, or does what another command says.

Options are read before anything else is imported, so that help and mistakes are answered at once.
"""

import argparse
import importlib
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from quartet.extras import needs

if TYPE_CHECKING:
    from service.tasks.registry import Registry


def main(registry: "Registry | None" = None, arguments: Sequence[str] | None = None) -> int:
    """Runs a command.

    Args:
        registry: the tasks that are served, the built-in ones by default; with further ones, a module of your own is
            the service.
        arguments: of the command line; None for those of the process.

    Returns:
        The exit code; what it means is in the command's module.
    """
    options = _parser().parse_args(arguments)
    with needs("server"):
        command = importlib.import_module(f"service.commands.{options.command}")
        if registry is None:
            from service.tasks.registry import BUILT_IN

            registry = BUILT_IN
    code: int = command.run(registry, options)
    return code


class _ServeParser(argparse.ArgumentParser):
    """Lists the settings in its help; reading them takes longer than starting."""

    def format_help(self) -> str:
        with needs("server"):
            from service.settings import PREFIX, Settings

        width = max(map(len, Settings.model_fields)) + len(PREFIX)
        lines = [
            f"  {PREFIX + name.upper():<{width}}  {field.description} (default: {field.default})"
            for name, field in Settings.model_fields.items()
        ]
        return super().format_help() + "\nsettings, all of them environment variables:\n" + "\n".join(lines) + "\n"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m service",
        description="Serves the models in a folder over HTTP.",
        epilog="Settings are environment variables, QUARTET_…: `python -m service serve --help` lists them.",
    )
    parser.set_defaults(command="serve")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", parser_class=_ServeParser)
    serve = "run the server until SIGTERM or SIGINT (the default)"
    commands.add_parser("serve", help=serve, description=serve).set_defaults(command="serve")
    return parser


if __name__ == "__main__":
    sys.exit(main())
