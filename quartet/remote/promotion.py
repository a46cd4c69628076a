"""Waits until the server has decided on a promotion that depends on the agreement of two versions."""

import asyncio
import sys
from collections.abc import Mapping
from typing import Any

from quartet.errors import ProblemError
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


async def wait(administration: Administration, state: Mapping[str, Any], version: str) -> tuple[Any, str | None]:
    """Waits for the decision, and shows the figures meanwhile.

    Args:
        administration: of the model.
        state: after the promotion was asked for.
        version: its number.

    Returns:
        The state then, and why there will be no decision, if the two versions cannot be compared.
    """
    progress = Progress(state["shadow"]["promote"]["after"] if _is_pending(state, version) else 1)
    was_pending = True
    try:
        while state["default"] != version:
            if _is_pending(state, version):
                was_pending = True
                figures = await _figures(administration)
                if figures and figures["measure"] is None:
                    return state, figures["verdict"]
                if figures:
                    progress.show(figures)
            elif was_pending:
                was_pending = False  # another process of the server may not have read the policy yet
            else:
                break
            await asyncio.sleep(_SECONDS)
            state = await administration.state()
    finally:
        progress.end()
    return state, None


async def _figures(administration: Administration) -> Any:
    """Those of the shadow; None if it has ended since."""
    try:
        return await administration.show("shadow")
    except ProblemError as error:
        if error.status != _NOT_FOUND:
            raise
        return None


def _is_pending(state: Mapping[str, Any], version: str) -> bool:
    shadow = state["shadow"]
    return bool(shadow and shadow["promote"] and number_of(state, shadow["version"]) == version)
