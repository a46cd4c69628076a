"""Tables and sentences in Markdown."""

import re
from collections.abc import Iterable, Sequence

# Environment variables, perhaps with a value, and options of commands.
_CODE = re.compile(r"(?<![\w`-])((?:QUARTET|CUDA|OTEL)_[A-Z_]*[A-Z](?:=\w+)?|--[a-z][a-z-]*[a-z])(?![\w`])")


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table with a line for each row."""
    lines = [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |\n" for row in rows]
    return "".join([f"| {' | '.join(head)} |\n", f"|{'---|' * len(head)}\n", *lines])


def with_code(text: str) -> str:
    """A text in which the names of environment variables and options are code."""
    parts = re.split(r"(`[^`]*`)", text)
    return "".join(part if part.startswith("`") else _CODE.sub(r"`\1`", part) for part in parts)
