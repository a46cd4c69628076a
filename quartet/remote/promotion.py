"""Waits until the server has decided on a promotion that depends on the agreement of two versions."""

import asyncio
import sys
from collections.abc import Mapping
from typing import Any

from quartet.errors import Problem
from quartet.remote.administration import Administration
from quartet.remote.words import describe_agreement, number_of

_SECONDS = 2.0
_NOT_FOUND = 404


class Progress:
    """A line on stderr: on a terminal it is overwritten, elsewhere a new one is written for each tenth of the way."""

    def __init__(self, after: int) -> None:
        self._after = after
        self._terminal = sys.stderr.isatty()
        self._shown = -1

    def show(self, figures: Mapping[str, Any]) -> None:
        """Shows the figures of the shadow."""
        line = describe_agreement(figures, self._after)
        if not figures["compared"]:
            line += ": they are copies of live requests"
        tenth = 10 * figures["compared"] // self._after
        if self._terminal:
            print(f"\r\x1b[K{line}", end="", file=sys.stderr, flush=True)
        elif tenth > self._shown:
            print(line, file=sys.stderr, flush=True)
        self._shown = tenth

    def end(self) -> None:
        """Ends the line."""
        if self._terminal and self._shown >= 0:
            print(file=sys.stderr)


async def wait(administration: Administration, state: Mapping[str, Any], version: str) -> tuple[bool, Any]:
    """Waits for the decision, and shows the figures meanwhile.

    Args:
        administration: of the model.
        state: after the promotion was asked for.
        version: its number.

    Returns:
        Whether the version became the default, and the state then.
    """
    progress = Progress(state["shadow"]["promote"]["after"] if _is_pending(state, version) else 1)
    was_pending = True
    try:
        while state["default"] != version:
            if _is_pending(state, version):
                was_pending = True
                await _show(administration, progress)
            elif was_pending:
                was_pending = False  # another process of the server may not have read the policy yet
            else:
                return False, state
            await asyncio.sleep(_SECONDS)
            state = await administration.state()
    finally:
        progress.end()
    return True, state


async def _show(administration: Administration, progress: Progress) -> None:
    try:
        progress.show(await administration.show("shadow"))
    except Problem as error:
        if error.status != _NOT_FOUND:  # the shadow has ended since
            raise


def _is_pending(state: Mapping[str, Any], version: str) -> bool:
    shadow = state["shadow"]
    return bool(shadow and shadow["promote"] and number_of(state, shadow["version"]) == version)
