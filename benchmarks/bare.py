"""What the bare ONNX Runtime session reaches, without anything around it."""

import statistics
import time

import numpy as np
import numpy.typing as npt

from service.inference.session import Session


def bare_rate(session: Session, inputs: npt.NDArray[np.uint8], batch: int, seconds: float) -> float:
    """Items a second of `session.run` alone, at batches of one size.

    Args:
        session: of one input.
        inputs: real ones, repeated as often as needed.
        batch: how many at a time.
        seconds: how long.
    """
    feed = {session.inputs[0]: np.resize(inputs, (batch, *inputs.shape[1:]))}
    session.run(feed)
    times = []
    end = time.perf_counter() + seconds
    while (started := time.perf_counter()) < end:
        session.run(feed)
        times.append(time.perf_counter() - started)
    return batch / statistics.median(times)
