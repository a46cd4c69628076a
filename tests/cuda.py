"""CUDA without a GPU: the CPU provider behind everything that the service does on CUDA, recorded."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import numpy as np
import onnxruntime as ort

# As the provider words it, after which the GPU answers nothing more to the process.
LOST = (
    "Non-zero status code returned while running Conv node. CUDA failure 700: an illegal memory access was encountered "
    "; GPU=0 ; hostname=gpu ; file=cuda_call.cc ; line=1 ; expr=cudaStreamSynchronize(stream); "
)
_Session = ort.InferenceSession


@dataclass
class Recorded:
    """What happened.

    Attributes:
        opened: the shapes of the inputs of each session on CUDA, and the options of its provider, in order.
        runs: of those sessions, the shapes of the inputs of each run, in order.
        threads: names of the threads on which they ran.
        errors: raised by the next runs instead, one each.
        refusal: raised instead of opening a session on CUDA.
    """

    opened: list[tuple[list[tuple[Any, ...]], dict[str, str]]] = field(default_factory=list)
    runs: list[list[tuple[int, ...]]] = field(default_factory=list)
    threads: set[str] = field(default_factory=set)
    errors: list[Exception] = field(default_factory=list)
    refusal: Exception | None = None


@contextmanager
def fake_cuda() -> Iterator[Recorded]:
    """While it lasts, CUDA works: on the CPU."""
    recorded = Recorded()

    class Session(_Session):
        def __init__(self, graph: bytes, options: ort.SessionOptions, providers: list[Any], **rest: Any) -> None:
            self._on_cuda = len(providers) > 1
            if self._on_cuda and recorded.refusal:
                raise recorded.refusal
            super().__init__(graph, options, providers=providers[-1:], **rest)
            if self._on_cuda:
                shapes = [tuple(value.shape) for value in self.get_inputs()]
                recorded.opened.append((shapes, providers[0][1]))

        def get_providers(self) -> list[str]:
            return ["CUDAExecutionProvider", "CPUExecutionProvider"] if self._on_cuda else super().get_providers()

        def run(self, names: Any, inputs: dict[str, np.ndarray], *rest: Any) -> Any:
            if self._on_cuda:
                recorded.runs.append([array.shape for array in inputs.values()])
                recorded.threads.add(threading.current_thread().name)
                if recorded.errors:
                    raise recorded.errors.pop(0)
            return super().run(names, inputs, *rest)

    with (
        mock.patch("onnxruntime.InferenceSession", Session),
        mock.patch("service.inference.cuda.cuda_problem", return_value=None),
    ):
        yield recorded
