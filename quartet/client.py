"""The client for programs without an event loop, and for notebooks, whose loop is busy."""

import asyncio
import functools
import os
import weakref
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Self, TypeVar

from quartet.asynchronous import AsyncClient
from quartet.background import background_loop, run
from quartet.results import Stream

if TYPE_CHECKING:
    from typing import Unpack

    from quartet.options import ClientOptions

_P = ParamSpec("_P")
_T = TypeVar("_T")


def _blocking(
    method: Callable[Concatenate[AsyncClient, _P], Coroutine[Any, Any, _T]],
) -> "Callable[Concatenate[Client, _P], _T]":
    """A method of the asynchronous client as one that waits for the answer."""

    @functools.wraps(method)
    def call(client: "Client", /, *arguments: _P.args, **options: _P.kwargs) -> _T:
        answer = run(method(client._of_process(), *arguments, **options))
        return answer.block() if isinstance(answer, Stream) else answer

    return call


class Client:
    """A client: `with Client() as client: …`, or without `with` in a notebook; threads may share it.

    The methods, options and errors are those of `AsyncClient`; here the methods block until the answer is there. They
    run on an event loop in a separate thread, so they also work while another loop is running.
    """

    def __init__(self, url: str | None = None, **options: "Unpack[ClientOptions]") -> None:
        self._open = functools.partial(AsyncClient, url, **options)
        self._process = os.getpid()
        self._client = self._open()
        weakref.finalize(self, _abandon, self._client).atexit = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _of_process(self) -> AsyncClient:
        """The client of this process: one that was forked has none of its parent's connections."""
        if self._process != os.getpid():
            self._process, self._client = os.getpid(), self._open()
        return self._client

    predict = _blocking(AsyncClient.predict)
    detect = _blocking(AsyncClient.detect)
    draw_detections = _blocking(AsyncClient.draw_detections)
    generate = _blocking(AsyncClient.generate)
    generate_to = _blocking(AsyncClient.generate_to)
    encode = _blocking(AsyncClient.encode)
    decode = _blocking(AsyncClient.decode)
    reconstruct = _blocking(AsyncClient.reconstruct)
    draw_reconstruction = _blocking(AsyncClient.draw_reconstruction)
    classify_text = _blocking(AsyncClient.classify_text)
    predict_tabular = _blocking(AsyncClient.predict_tabular)
    models = _blocking(AsyncClient.models)
    model = _blocking(AsyncClient.model)
    close = _blocking(AsyncClient.close)


def _abandon(client: AsyncClient) -> None:
    """Ends the connections of a client that nobody holds any more."""
    asyncio.run_coroutine_threadsafe(client.close(), background_loop())
