"""How commands report a failure, and name themselves."""

import difflib
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path

# The exit codes of all commands; docs/reference/commands.md lists them.
FAILED = 1  # the command, or an item
MISUSED = 2  # a wrong command, option or setting, or an unknown model
INTERRUPTED = 130


def did_you_mean(given: str, known: Iterable[str], there: str) -> str:
    """How a sentence about an unknown name ends: with the name that is most like it, or with all of them.

    Args:
        given: the unknown name.
        known: all names.
        there: what stands before all names, such as `the options are`.
    """
    names = list(known)
    near = difflib.get_close_matches(given.casefold(), names, n=1, cutoff=0.75)
    return f": did you mean {near[0]}?" if near else f"; {there} {', '.join(names) or 'none'}."


def fail(code: int, message: str) -> int:
    """Prints an error to stderr and returns the exit code."""
    print(f"error: {message}", file=sys.stderr)
    return code


def as_typed(program: str = "quartet") -> str:
    """How the user calls a program, for commands in messages: `.venv/bin/quartet` where PATH does not find it.

    Args:
        program: `quartet`, or `python -m MODULE`.
    """
    if program.startswith("python -m"):
        interpreter, *rest = sys.orig_argv
        return " ".join([interpreter, *program.split()[1:]]) if rest[:2] == program.split()[1:] else program
    called = Path(sys.argv[0])
    if sys.orig_argv[1:3] == ["-m", "training"]:  # quartet is installed beside the interpreter
        called = Path(sys.orig_argv[0]).with_name(program)
    found = shutil.which(program)
    if called.name != program or not called.is_file() or (found and Path(found).samefile(called)):
        return program
    return str(called)
