"""quartet models --server: the models that a server serves."""

import argparse
import asyncio
from collections.abc import Iterator, Mapping
from typing import Any

from quartet.calls import Calls
from quartet.console import FAILED, MISUSED, did_you_mean, fail
from quartet.errors import QuartetError
from quartet.offline.printing import Printer
from quartet.remote.server import connect, explain


def run(options: argparse.Namespace) -> int:
    """Prints the models, or all versions of those that are named.

    Args:
        options: `server`, `names` and `format`.

    Returns:
        0; 1 if a version was refused or the server does not answer; 2 for an unknown model.
    """
    try:
        document = asyncio.run(_get(options.server))
    except QuartetError as error:
        return fail(FAILED, explain(error))
    rows = list(_describe(document, options.names))
    there = sorted({row["model"] for row in _describe(document, [])})
    if missing := sorted({*options.names} - {row["model"] for row in rows}):
        return fail(MISUSED, f"the server has no model {missing[0]}{did_you_mean(missing[0], there, 'it has')}")
    printer = Printer(options.format, below="description")
    for row in rows:
        printer.add(row)
    printer.end()
    return FAILED if any("problem" in row for row in rows) else 0


async def _get(url: str | None) -> Any:
    async with connect(url, retry_for=0) as connection:
        return await Calls(connection, 1).get("models")


def _describe(document: Mapping[str, Any], names: list[str]) -> Iterator[dict[str, Any]]:
    """Yields a row per served model, or per version of the models that are named, and one per refused version."""
    for entry in document["models"]:
        if entry["name"] in names or (not names and entry.get("default", True)):
            default = ["default"] if names and entry.get("default") else []
            yield {
                "model": entry["name"],
                "version": entry["version"],
                **({"aliases": aliases} if (aliases := [*default, *entry.get("aliases", ())]) else {}),
                "task": entry["task"],
                "device": entry["device"],
                "variant": entry.get("variant"),
                "figures": entry["metrics"],
                "description": entry["description"],
            }
    for what, problem in document.get("refused", {}).items():
        model, _, version = what.partition("/")
        if not names or model in names:
            yield {"model": model, "version": version, "problem": problem}
