"""A server whose model's weight is damaged by SIGUSR2; `python -m tests.corrupted` runs it."""

import signal
import sys
from collections.abc import Callable

import numpy as np
import onnxruntime as ort

from service.__main__ import main
from service.inference import runtime


class Weight:
    """The weight `scale` of the tiny classifier, in memory that the sessions use and a test can change."""

    def __init__(self) -> None:
        self.array = np.array(1 / 32, np.float32)
        self.value = ort.OrtValue.ortvalue_from_numpy(self.array)

    def flip(self, bit: int) -> None:
        """Flips a bit of the loaded weight."""
        self.array.view(np.uint32)[...] ^= 1 << bit


def owned_weight(weight: Weight, options: Callable[[int], ort.SessionOptions]) -> Callable[[int], ort.SessionOptions]:
    """The service's session options, with a weight that the sessions do not copy."""

    def with_weight(threads: int) -> ort.SessionOptions:
        made = options(threads)
        made.add_session_config_entry("session.disable_prepacking", "1")
        made.add_initializer("scale", weight.value)
        return made

    return with_weight


if __name__ == "__main__":
    loaded = Weight()
    runtime._options = owned_weight(loaded, runtime._options)
    signal.signal(signal.SIGUSR2, lambda *_: loaded.flip(23))
    sys.exit(main(arguments=[]))
