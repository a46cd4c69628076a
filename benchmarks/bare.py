"""Throughput of a bare ONNX Runtime session, without a service around it."""

import numpy as np
import numpy.typing as npt

from service.inference.performance import seconds_per_batch
from service.inference.session import Session


def bare_rate(session: Session, inputs: npt.NDArray[np.uint8], batch: int, seconds: float) -> float:
    """Items per second of `session.run` alone, at one batch size.

    Args:
        session: with a single input.
        inputs: real inputs, repeated to fill a batch.
        batch: the batch size.
        seconds: how long to measure.
    """
    return batch / seconds_per_batch(session, {session.inputs[0]: inputs}, batch, seconds)
