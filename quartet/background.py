"""An event loop in a thread of its own, for callers without one, or with one that is busy, as in a notebook."""

import asyncio
import os
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

_T = TypeVar("_T")
_lock = threading.Lock()
_loop: tuple[int, asyncio.AbstractEventLoop] | None = None


def background_loop() -> asyncio.AbstractEventLoop:
    """The process's loop; a forked process has its own, since threads do not survive a fork."""
    global _loop
    with _lock:
        if _loop is None or _loop[0] != os.getpid():
            loop = asyncio.new_event_loop()
            # A daemon: a client that nobody closed does not keep the program from ending.
            threading.Thread(target=loop.run_forever, name="quartet", daemon=True).start()
            _loop = os.getpid(), loop
        return _loop[1]


def run(coroutine: Coroutine[Any, Any, _T]) -> _T:
    """What a coroutine returns; whoever is interrupted while waiting, with Ctrl-C, also ends the work."""
    future = asyncio.run_coroutine_threadsafe(coroutine, background_loop())
    try:
        return future.result()
    except BaseException:
        future.cancel()
        raise
