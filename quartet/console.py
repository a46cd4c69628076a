"""How commands report a failure."""

import sys


def fail(code: int, message: str) -> int:
    """Prints an error to stderr and returns the exit code."""
    print(f"error: {message}", file=sys.stderr)
    return code
