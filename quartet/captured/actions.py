"""What `quartet captured` does."""

import argparse
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from quartet.captured.export import Nothing, export
from quartet.captured.items import Captured, captured
from quartet.console import FAILED, fail
from quartet.offline.printing import Printer
from service.capture.database import Selection
from service.capture.store import Store


def list_items(options: argparse.Namespace, where: Selection) -> int:
    """Prints a line for each model, or for each item of one."""
    printer = Printer(options.format)
    with Store(options.folder) as store:
        store.delete_expired(time.time())
        rows = _models(store, where) if options.model is None else map(_row, captured(store, where))
        for row in rows:
            printer.add(row)
    printer.end()
    return 0


def export_items(options: argparse.Namespace, where: Selection) -> int:
    """Writes items in a layout."""
    with Store(options.folder) as store:
        store.delete_expired(time.time())
        try:
            summary = export(captured(store, where), options.output, options.layout, unchecked=options.unchecked)
        except Nothing as error:
            return fail(FAILED, str(error))
    print(f"{options.output}: {summary}", file=sys.stderr)
    return 0


def delete_items(options: argparse.Namespace, where: Selection) -> int:
    """Deletes items."""
    with Store(options.folder) as store:
        store.delete_expired(time.time())
        items, feedback = store.delete(where)
    what = f"{items} {'item' if items == 1 else 'items'}, and {feedback} {'entry' if feedback == 1 else 'entries'}"
    print(f"Deleted {what} of feedback.", file=sys.stderr)
    return 0


def _models(store: Store, where: Selection) -> Iterator[dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for each in captured(store, where):
        row = found.setdefault(
            each.item.model,
            {"model": each.item.model, "items": 0, "with_truth": 0, "bytes": 0, "oldest": _moment(each.item.time)},
        )
        row["items"] += 1
        row["with_truth"] += each.truth is not None
        row["bytes"] += len(each.item.content)
        row["newest"] = _moment(each.item.time)
    yield from found.values()


def _row(each: Captured) -> dict[str, Any]:
    item = each.item
    return {
        "time": _moment(item.time),
        "version": item.version,
        "strategy": item.strategy,
        "request": item.request,
        "index": item.index,
        "answer": item.answer.get("labels") or item.answer.get("boxes") or item.answer.get("value"),
        "typicality": item.answer.get("typicality"),
        "right": each.right,
        "truth": each.truth,
    }


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
