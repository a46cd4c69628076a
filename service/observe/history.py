"""The last hour of the main figures, in memory: a row for every ten seconds.

A row is what the metrics have counted since the row before, so a request costs nothing more. Each process publishes its
last rows on the board and adds up those of all, so every process has the hour of the whole service. A process that was
started again has the hour since then.

In memory are 360 rows of some 60 numbers, and of 36 for each model: 0.2 MB, and 104 kB a model; at most 2.8 MB.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Collection
from typing import Any

import numpy as np
import numpy.typing as npt

from service.observe.figures import MODEL, SERVER, Figures, Rows, add_up, describe, difference, numbers, read
from service.observe.metrics import Metrics
from service.processes.board import Board

logger = logging.getLogger(__name__)

# Seconds of a row, and how many rows are kept.
STEP, ROWS = 10, 360
# Models with rows of their own. All of them count in the rows of all models.
_MOST_MODELS = 24
# Rows that a process publishes: one that is late by so many is still added to the others.
_PUBLISHED = 3
# How long the other processes have to publish a row; the board writes within a second.
_OTHERS_SECONDS = 2.0
_KEY = "history"
# The route of gRPC that runs models.
_MODEL_ROUTE = "/inference.GRPCInferenceService/ModelInfer"


class History:
    """The rows of the last hour.

    Args:
        board: exchanges rows with the other processes of the service.
        metrics: that are read.
    """

    def __init__(self, board: Board, metrics: Metrics) -> None:
        self._board = board
        self._metrics = metrics
        self._published: dict[int, Figures] = {}
        # By the number of the period modulo ROWS; -1 where there is no row.
        self._periods = np.full(ROWS, -1)
        self._server = np.zeros(ROWS, SERVER)
        self._models = {"": np.zeros(ROWS, MODEL)}

    async def run(self, measure: Callable[[], None], routes: Collection[str]) -> None:
        """Adds a row every ten seconds, until it is cancelled.

        Args:
            measure: sets the gauges; called on the event loop.
            routes: of HTTP that run models; their latency is kept, and that of gRPC.
        """
        routes = {*routes, _MODEL_ROUTE}
        before, began = await asyncio.to_thread(self._read, routes), time.monotonic()
        while True:
            period = round(time.time() / STEP) + 1  # 5 to 15 seconds from now, however the clock was set
            await asyncio.sleep(period * STEP - time.time())
            try:
                measure()
                now, ended = await asyncio.to_thread(self._read, routes), time.monotonic()
                await self.add(period, difference(now, before, STEP / (ended - began)))
                before, began = now, ended
            except Exception:
                logger.exception("there is no row of figures for the last %d s", STEP)

    async def add(self, period: int, figures: Figures) -> None:
        """Adds a row of this process, and those that others have published.

        Args:
            period: number of the period since the epoch.
            figures: in this period.
        """
        self._published = {each: kept for each, kept in self._published.items() if 0 < period - each < _PUBLISHED}
        self._published[period] = figures
        self._board.publish(_KEY, self._describe)
        if self._board.shared:
            await asyncio.sleep(_OTHERS_SECONDS)
        documents = await self._board.read(_KEY)
        self._periods[self._periods > period] = -1  # the clock was set back
        for each in self._published:
            self._put(each, add_up([row for document in documents for found, row in document if found == each]))

    @property
    def times(self) -> list[int]:
        """When the period of each row ended, in seconds since the epoch, in order."""
        return [int(period) * STEP for period in self._periods[self._order]]

    @property
    def server(self) -> Rows:
        """The rows of the server, in the order of time."""
        return self._server[self._order]

    @property
    def names(self) -> Collection[str]:
        """The models that have rows."""
        return self._models.keys() - {""}

    @property
    def models(self) -> dict[str, Rows]:
        """The rows of each model by its name, and of all models under an empty name."""
        return {name: rows[self._order] for name, rows in self._models.items()}

    @property
    def _order(self) -> npt.NDArray[np.intp]:
        """The rows that there are, by their periods."""
        order = np.argsort(self._periods)
        first = np.searchsorted(self._periods[order], max(0, int(self._periods.max()) - ROWS + 1))
        return order[int(first) :]

    def _read(self, routes: Collection[str]) -> Figures:
        return read(self._metrics.own.collect(), routes)

    def _describe(self) -> list[Any]:
        """The last rows of this process, as JSON types."""
        return [[period, describe(figures)] for period, figures in self._published.items()]

    def _put(self, period: int, figures: Figures) -> None:
        index = period % ROWS
        self._periods[index] = period
        self._server[index] = figures.server[0]
        for name, rows in list(self._models.items()):
            rows[index] = np.zeros((), MODEL)
            if name and name not in figures.models and not numbers(rows).any():
                del self._models[name]  # it has done nothing for an hour
        for name, row in figures.models.items():
            if name not in self._models and len(self._models) <= _MOST_MODELS:
                self._models[name] = np.zeros(ROWS, MODEL)
            if name in self._models:
                self._models[name][index] = row[0]
