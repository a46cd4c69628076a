"""python -m service: runs the server.

The command line is parsed before anything heavy is imported, so that help and mistakes are answered at once.
"""

import importlib
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from quartet.command_line import COMMANDS, OFFLINE
from quartet.extras import needs
from service.options import make_parser

if TYPE_CHECKING:
    from service.tasks.registry import Registry


def main(
    registry: "Registry | None" = None, arguments: Sequence[str] | None = None, prog: str = "python -m service"
) -> int:
    """Runs the server, or an offline command such as `doctor`, with the same tasks.

    Args:
        registry: the tasks that are served; None for the built-in ones. A module of your own that passes more tasks is
            a service with them.
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
    return launch(registry, models=options.models, port=options.port, workers=options.workers)


if __name__ == "__main__":
    sys.exit(main())
