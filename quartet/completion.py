"""Shell completion of the commands, by argcomplete."""

import argparse
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from quartet.extras import needs

SHELLS = ("bash", "zsh", "fish")


def main(arguments: Sequence[str], prog: str = "quartet") -> int:
    """Prints the code that a shell evaluates: `quartet completion SHELL`."""
    shell = make_parser(prog).parse_args(arguments[1:]).shell
    with needs("server"):
        from argcomplete.shell_integration import shellcode
    print(shellcode([prog], shell=shell))
    return 0


def make_parser(prog: str) -> argparse.ArgumentParser:
    """The parser of what follows the command."""
    parser = argparse.ArgumentParser(
        prog=f"{prog} completion",
        description="Prints the code for shell completion.",
        epilog='For bash, put this into ~/.bashrc: eval "$(quartet completion bash)"',
    )
    parser.add_argument("shell", choices=SHELLS)
    return parser


def complete(commands: Iterable[str]) -> None:
    """Answers the shell that has called the program for completions, and exits.

    Args:
        commands: the names of all commands.
    """
    with needs("server"):
        import argcomplete

    words = os.environ.get("COMP_LINE", "")[: int(os.environ.get("COMP_POINT") or 1 << 20)].split(" ")
    given = [word for word in words[1:-1] if word]  # the last word is being typed
    # The parser of a command follows the words before its own.
    parser, skipped = _parser(given, commands)
    os.environ["_ARGCOMPLETE"] = str(int(os.environ["_ARGCOMPLETE"]) + skipped)
    argcomplete.autocomplete(parser)
    sys.exit(0)


def complete_models(**_: Any) -> list[str]:
    """The names of the models in the folder."""
    folder = Path(os.environ.get("QUARTET_MODELS") or "models")
    return sorted({path.parent.parent.name for path in folder.glob("*/*/manifest.json")})


def _parser(given: Sequence[str], commands: Iterable[str]) -> tuple[argparse.ArgumentParser, int]:
    """The parser that completes what follows some words, and how many of them it does not see."""
    match given:
        case []:
            parser = argparse.ArgumentParser("quartet")
            parser.add_argument("command", choices=tuple(commands))
            return parser, 0
        case ["models", verb, *_]:
            from quartet.remote.command_line import VERBS
            from quartet.remote.command_line import make_parser as make_verbs

            if verb in VERBS:
                return make_verbs("quartet"), 1
        case ["completion", *_]:
            return make_parser("quartet"), 1
        case ["conformance", *_]:
            from quartet.conformance.command_line import make_parser as make_conformance

            return make_conformance("quartet"), 1
        case ["adopt", *rest]:
            from quartet.adopt.command_line import make_parser as make_adopt
            from quartet.adopt.command_line import task_of

            return make_adopt("quartet", task_of(rest)), 1
        case ["feedback", *_]:
            from quartet.feedback import make_parser as make_feedback

            return make_feedback("quartet"), 1
        case ["captured", *_]:
            from quartet.captured.command_line import make_parser as make_captured

            return make_captured("quartet"), 0
        case ["replay", *_]:
            from quartet.replay.command_line import make_parser as make_replay

            return make_replay("quartet"), 0
        case ["keys", *_]:
            from quartet.keys import make_parser as make_keys

            return make_keys("quartet"), 0
        case ["serve", *_]:
            from service.__main__ import make_parser as make_service

            return make_service("quartet"), 0
        case ["train" | "inspect" | "publish" | "evaluate" | "quantize" | "ood" | "drift" | "card" as command, *rest]:
            return _training_parser(command, rest), 1
    from quartet.offline.command_line import make_parser as make_offline

    return make_offline("quartet"), 0


def _training_parser(command: str, rest: Sequence[str]) -> argparse.ArgumentParser:
    """The options of a training command; those of `train` are of the task that is named, or else of all tasks."""
    with needs("training"):
        from training.command_line import PUBLISHED, data_options
        from training.parser import option_names
        from training.registry import RECIPES

    parser = argparse.ArgumentParser(f"quartet {command}")
    what = parser.add_argument("what", nargs="?")
    if command in PUBLISHED:
        names = option_names(PUBLISHED[command])
        if command != "publish":
            what.completer = complete_models  # type: ignore[attr-defined]
    else:
        task = rest[rest.index("--task") + 1 : rest.index("--task") + 2] if "--task" in rest else []
        names = set().union(*(data_options(each) for each in task if each in RECIPES)) or set().union(
            *map(data_options, RECIPES)
        )
        parser.add_argument("--task", choices=tuple(RECIPES))
    for name in sorted(name for name in names if name.startswith("--") and name != "--task"):
        parser.add_argument(name, nargs="?")
    return parser
