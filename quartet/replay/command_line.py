"""quartet replay: what would other versions have answered, and what load does a server stand?"""

import argparse
import asyncio
import math
import os
from collections.abc import Sequence
from pathlib import Path

from quartet.captured.command_line import add_filters, selection
from quartet.console import FAILED, MISUSED, fail
from quartet.extras import needs


def main(arguments: Sequence[str] | None = None, prog: str = "quartet") -> int:
    """Runs the command.

    Args:
        arguments: the command line, from `replay` on; None for that of the process.
        prog: the program's name in help and usage messages.

    Returns:
        0; 1 if the captures or a model cannot be used, or the server failed a request; 2 for a wrong option or an
        unknown model.
    """
    parser = make_parser(prog)
    options = parser.parse_args(arguments)
    if problem := _problem(options):
        parser.error(problem)
    with needs("server"):
        from quartet.offline.scoring.sources import UnusableJob
        from quartet.replay.compare import NothingToReplay, compare
        from quartet.replay.load import replay
        from service.capture.database import Unusable
        from service.errors import QuartetError as ServiceError
        from service.inference.device import DeviceUnavailable
        from service.inference.repository import NothingToServe
        from service.settings import InvalidSettings, read_settings

    from quartet.errors import QuartetError

    where = selection(options, options.versions[0].partition("/")[0])
    try:
        if options.server is not None and options.protocol != "v2":
            return asyncio.run(replay(options, where))
        settings = read_settings(models=options.models)
        if options.server is not None:
            return asyncio.run(replay(options, where, settings))
        return asyncio.run(compare(options, where, settings))
    except (InvalidSettings, UnusableJob) as error:
        return fail(MISUSED, str(error))
    except (Unusable, NothingToReplay) as error:
        return fail(FAILED, f"{error}.")
    except (NothingToServe, DeviceUnavailable, ServiceError, QuartetError, OSError) as error:
        return fail(FAILED, str(error))


def _problem(options: argparse.Namespace) -> str | None:
    """What is wrong with options that each are valid; None if nothing is."""
    names = {model.partition("/")[0] for model in options.versions}
    if options.server is not None:
        if len(options.versions) > 1 or options.examples:
            return "--server takes one --model, and no --examples"
        if options.models and options.protocol != "v2":
            return "--server needs --models for --protocol v2 only"
        return None
    if len(options.versions) < 2 or len(names) > 1:
        return "name two or more versions of one model, as in --model NAME/1 --model NAME/2; or a --server"
    if options.protocol is not None or options.speed is not None or options.clients is not None:
        return "--protocol, --speed and --clients are for --server"
    return None


def make_parser(prog: str) -> argparse.ArgumentParser:
    """The parser of the command line."""
    parser = argparse.ArgumentParser(prog=prog, description="Replays captured items.")
    replay = parser.add_subparsers(metavar="COMMAND", required=True).add_parser(
        "replay",
        description="Without a server: runs captured items through versions of a model, and says where their answers "
        "differ, and how good they are where feedback says what is true. With --server: sends the items again, as they "
        "came or as fast as possible, and says how the server stood it.",
    )
    replay.add_argument(
        "folder", metavar="CAPTURES", type=Path, nargs="?",
        default=Path(os.environ.get("QUARTET_CAPTURES") or "captures"),
        help="the folder of the captures (default: QUARTET_CAPTURES, or captures)",
    )  # fmt: skip
    replay.add_argument(
        "--model", metavar="NAME/VERSION", dest="versions", action="append", required=True,
        help="a version to run; the first one is what the others are compared with. With --server NAME is enough",
    )  # fmt: skip
    replay.add_argument("--models", metavar="FOLDER", help="the models: QUARTET_MODELS=FOLDER (default: models)")
    replay.add_argument(
        "--examples", metavar="FOLDER", type=Path,
        help="write the inputs whose answers differ most into this new folder, with a README.md",
    )  # fmt: skip
    replay.add_argument("--server", metavar="URL", help="send the items to this server")
    replay.add_argument(
        "--protocol", choices=("v1", "v2"),
        help="with --server: v1 for the files, texts and rows as they were sent; v2 for tensors, which the same model "
        "in --models makes (default: v1)",
    )  # fmt: skip
    replay.add_argument(
        "--speed", type=_speed, metavar="FACTOR",
        help="with --server: 1 for the recorded pace, 2 for twice that, or full (default: full)",
    )  # fmt: skip
    replay.add_argument(
        "--clients", type=_clients, metavar="N", help="with --server: requests at a time at most (default: 8)"
    )
    add_filters(replay)
    return parser


def _speed(text: str) -> float:
    speed = math.inf if text == "full" else float(text)
    if not speed > 0:  # also refuses NaN
        raise argparse.ArgumentTypeError("must be above 0, or full")
    return speed


def _clients(text: str) -> int:
    count = int(text)
    if not 1 <= count <= 1000:
        raise argparse.ArgumentTypeError("must be from 1 to 1000")
    return count
