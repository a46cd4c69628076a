"""The parts of the documents that are generated.

In a document, a part stands between `<!-- generated: NAME -->` and `<!-- end of generated -->`, and the result of a
benchmark between `<!-- results: NAME -->` and `<!-- end of results -->`.
"""

import re
from collections.abc import Callable, Mapping
from pathlib import Path

from benchmarks import results
from docs.generate import commands, metrics, options, problems, settings

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs").rglob("*.md"))
PARTS: Mapping[str, Callable[[], str]] = {
    "commands": commands.in_markdown,
    "recipes": options.recipes_in_markdown,
    "metrics": metrics.in_markdown,
    "problems": problems.in_markdown,
    "settings": settings.in_markdown,
}
_BLOCK = re.compile(
    r"(?P<start><!-- (?P<kind>generated|results): (?P<name>\w+) -->\n).*?(?P<end><!-- end of (?P=kind) -->)", re.DOTALL
)


def filled(text: str) -> str:
    """A document with its generated parts as they should be.

    Raises:
        KeyError: there is no part of a name.
    """
    return _BLOCK.sub(lambda found: found["start"] + _part(found["kind"], found["name"]) + found["end"], text)


def _part(kind: str, name: str) -> str:
    return results.rendered(name) if kind == "results" else f"\n{PARTS[name]()}\n"
