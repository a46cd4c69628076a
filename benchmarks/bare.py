"""A bare ONNX Runtime session, without a service around it."""

import statistics
import time

import numpy as np
import numpy.typing as npt

from benchmarks.load import Load
from service.inference.session import Session


def bare_load(session: Session, inputs: npt.NDArray[np.uint8], batch: int, seconds: float) -> Load:
    """What `session.run` alone reaches at one batch size: items per second, and how long a batch takes.

    The rate is of all batches in all of the time, as a client's is: the machine's pauses count for both.

    Args:
        session: with a single input.
        inputs: real inputs, repeated to fill a batch.
        batch: the batch size.
        seconds: how long to measure.
    """
    feed = {session.inputs[0]: np.resize(inputs, (batch, *inputs.shape[1:]))}
    session.run(feed)
    times: list[float] = []
    began = now = time.perf_counter()
    while now < began + seconds:
        session.run(feed)
        ended = time.perf_counter()
        times.append(ended - now)
        now = ended
    return Load(
        batch * len(times) / (now - began), 1000 * statistics.median(times), 1000 * float(np.percentile(times, 99))
    )


def bare_rate(session: Session, inputs: npt.NDArray[np.uint8], batch: int, seconds: float) -> float:
    """Items per second of `session.run` alone; as `bare_load`."""
    return bare_load(session, inputs, batch, seconds).rate
