"""python -m service: runs the server.

The command line is parsed before anything heavy is imported, so that help and mistakes are answered at once.
"""

import argparse
import importlib
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from quartet.command_line import COMMANDS, OFFLINE
from quartet.extras import needs

if TYPE_CHECKING:
    from service.tasks.registry import Registry


class _ServeParser(argparse.ArgumentParser):
    """Adds the settings to its help. They are imported only then."""

    def format_help(self) -> str:
        with needs("server"):
            from service.settings import PREFIX, Settings, default_in_environment

        width = max(map(len, Settings.model_fields)) + len(PREFIX)
        lines = []
        for name, field in Settings.model_fields.items():
            default = default_in_environment(field)
            shown = f" (default: {default})" if default else ""
            lines.append(f"  {PREFIX + name.upper():<{width}}  {field.description}{shown}\n")
        return super().format_help() + "\nsettings, all of them environment variables:\n" + "".join(lines)


def make_parser(prog: str) -> argparse.ArgumentParser:
    """The parser of the server's command line; options that are not given are None."""
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Serves the models in a folder over HTTP.",
        epilog=f"`{prog} serve --help` lists the settings, `quartet --help` the commands that need no server.",
    )
    parser.set_defaults(models=None, port=None, workers=None)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", parser_class=_ServeParser)
    serve = commands.add_parser(
        "serve",
        help="run the server until SIGTERM or SIGINT (the default)",
        description="Runs the server until SIGTERM or SIGINT.",
    )
    serve.add_argument("--models", metavar="FOLDER", help="the models: QUARTET_MODELS=FOLDER (default: models)")
    serve.add_argument("--port", metavar="N", help="port to listen on: QUARTET_PORT=N (default: 8000)")
    serve.add_argument(
        "--workers",
        metavar="N",
        help="processes that share the port, the cores and the memory: QUARTET_WORKERS=N (default: 1)",
    )
    return parser


def main(
    registry: "Registry | None" = None, arguments: Sequence[str] | None = None, prog: str = "python -m service"
) -> int:
    """Runs the server, or an offline command such as `doctor`, with the same tasks.

    Args:
        registry: the tasks to serve; None for the built-in ones. Your own module can call this with additional tasks.
        arguments: the command line; None for that of the process.
        prog: the program's name in help and usage messages.

    Returns:
        The exit code.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given and given[0] in COMMANDS and COMMANDS[given[0]][0] == OFFLINE:
        code: int = importlib.import_module(OFFLINE).main(registry, given, prog)
        return code
    options = make_parser(prog).parse_args(given)
    with needs("server"):
        from service.launch import launch
    return launch(registry, **vars(options))


if __name__ == "__main__":
    sys.exit(main())
