"""How commands report a failure, and name themselves."""

import shutil
import sys
from pathlib import Path


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
