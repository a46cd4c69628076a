"""Throughput of a bare ONNX Runtime session, without a service around it."""

import statistics
import time

import numpy as np
import numpy.typing as npt

from service.inference.session import Session


def bare_rate(session: Session, inputs: npt.NDArray[np.uint8], batch: int, seconds: float) -> float:
    """Items per second of `session.run` alone, at one batch size.

    Args:
        session: with a single input.
        inputs: real inputs, repeated to fill a batch.
        batch: the batch size.
        seconds: how long to measure.
    """
    feed = {session.inputs[0]: np.resize(inputs, (batch, *inputs.shape[1:]))}
    session.run(feed)
    times = []
    end = time.perf_counter() + seconds
    while (started := time.perf_counter()) < end:
        session.run(feed)
        times.append(time.perf_counter() - started)
    return batch / statistics.median(times)
