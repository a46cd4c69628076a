"""Command lines of what is done with published models, of nothing that takes long to import."""

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

# Of variants, in the order in which they are tried.
METHODS = ("int8", "float16")


def add_card_options(parser: ArgumentParser) -> None:
    """The command line of `training.export.card`."""
    _add_version(parser)


def add_evaluate_options(parser: ArgumentParser) -> None:
    """The command line of `training.export.evaluate`."""
    _add_version_options(parser, "images")
    parser.add_argument(
        "--calibrate",
        action="store_true",
        help="of a classifier: fit its calibration anew, that of every variant too (default: graphs stay as they are)",
    )
    parser.add_argument(
        "--compare",
        type=Path,
        nargs="*",
        default=[],
        help="other runs or versions, for the table (default: it stays as it is)",
    )


def add_familiarize_options(parser: ArgumentParser) -> None:
    """The command line of `training.export.familiarize`."""
    _add_version_options(parser, "items")
    _add_text_options(parser)
    parser.add_argument(
        "--foreign",
        metavar="NAME=DATA",
        action="append",
        default=[],
        help="other data, to measure how well they are told: images below a folder or in a data set (with crops:DATA "
        "squares out of large ones), or texts, one a line; may be given several times (default: made-up data alone)",
    )


def add_quantize_options(parser: ArgumentParser) -> None:
    """The command line of `training.export.quantize`."""
    _add_version_options(parser, "items")
    _add_text_options(parser)
    parser.add_argument(
        "--method", nargs="+", choices=(*METHODS, "all"), default=["all"], help="which variants to try (default: all)"
    )


def _add_version_options(parser: ArgumentParser, items: str) -> None:
    """Adds which version, and its data, which consists of `items`."""
    _add_version(parser)
    parser.add_argument("--data", required=True, help="the data that it was trained on, as its recipe took it")
    parser.add_argument("--limit", type=int, help="as its recipe took it (default: all)")
    add_reading_options(parser, items)
    add_gate_options(parser)


def _add_version(parser: ArgumentParser) -> None:
    parser.add_argument("model", metavar="NAME[/VERSION]", help="a published model (default: its newest version)")
    parser.add_argument("--models", type=Path, default=Path("models"), help="folder of the models (default: models)")


def _add_text_options(parser: ArgumentParser) -> None:
    parser.add_argument("--text-column", help="as its recipe took it, of texts (default: found)")
    parser.add_argument("--label-column", help="likewise")
    parser.add_argument("--validation", type=float, default=0.1, help="likewise, of texts (default: %(default)s)")


def add_reading_options(parser: ArgumentParser, items: str, *, text: bool = True) -> None:
    """Adds how the data is read.

    Args:
        parser: the recipe's.
        items: what the data consists of, in the plural.
        text: whether it may lie in text files.
    """
    parser.add_argument(
        "--bad",
        choices=("refuse", "drop"),
        default="refuse",
        help=f"what to do with {items} that cannot be used (default: %(default)s); they are named either way",
    )
    if text:
        parser.add_argument("--encoding", help="of text files, such as cp949 (default: found)")


def add_gate_options(parser: Any) -> None:
    """Adds to a parser, or to one of its groups, whether a published version becomes the default."""
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument(
        "--force",
        action="store_true",
        help="make the new version the default although its test figures are worse than those of the version that "
        "serves (default: it becomes the candidate then)",
    )
    choice.add_argument(
        "--candidate", action="store_true", help="publish as the candidate, which does not become the default"
    )
