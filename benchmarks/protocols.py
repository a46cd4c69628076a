"""Images by each protocol, one and 64 in a request, compared with the bare session of the committed classifier.

By the Open Inference Protocol the server gets pixels, in binary tensors, in JSON and over gRPC; by /v1 it gets JPEGs,
which it decodes. With a trivial network, the protocol takes most of the time. Rounds are interleaved, as in
`benchmarks.serving`. The client of gRPC runs in the benchmark's process, and takes more of the machine than `wrk` does.
"""

import asyncio
import json
import tempfile
import time
from argparse import Namespace
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import numpy.typing as npt
from rich.console import Console

from benchmarks import options
from benchmarks.bare import bare_rate
from benchmarks.comparison import Route, Workload, compare
from benchmarks.load import Load, LoadFailed
from benchmarks.results import Recorder
from benchmarks.servers import free_port, service
from benchmarks.serving import as_jpeg
from benchmarks.tiny import make_tiny
from quartet.protocol import inference_pb2
from service.inference.manifest import GOLDEN, MODEL
from service.inference.session import Session

BATCH = 64
_MODEL = "classifier"
_CONCURRENCIES = (1, 8)
_INFER = f"/v2/models/{_MODEL}/infer"
_BOUNDARY = "benchmark"

pb: Any = inference_pb2  # the generated module has no types

Images = npt.NDArray[np.uint8]


def main() -> None:
    """Runs the comparison and prints it; `--json` also writes it to a file."""
    arguments = options.parse("benchmarks.protocols", __doc__, rounds=4)
    console = Recorder()
    folder = options.newest(arguments.models, _MODEL)
    golden = np.load(folder / GOLDEN)["images"]
    figures = {"classifier": _compare(arguments, arguments.models, folder, golden, "the committed CNN", console)}
    with tempfile.TemporaryDirectory() as scratch:
        tiny = make_tiny(folder, Path(scratch))
        figures["tiny"] = _compare(arguments, Path(scratch), tiny, golden, "a trivial network", console)
    console.write(arguments.json, "benchmarks.protocols", figures)


def _compare(
    arguments: Namespace, models: Path, folder: Path, golden: Images, title: str, console: Console
) -> dict[str, Any]:
    session = Session(folder / MODEL, "cpu")
    grpc_port = free_port()
    workloads = [
        make(np.resize(golden, (items, *golden.shape[1:])), concurrency, grpc_port)
        for items in (1, BATCH)
        for concurrency in _CONCURRENCIES
        for make in (_binary, _over_grpc, _json, _as_jpeg)
    ]
    route = Route(title, {batch: partial(bare_rate, session, golden, batch) for batch in (1, BATCH)}, workloads)
    with service(models, {"variant": "reference", "grpc_port": str(grpc_port)}) as running:
        return compare(route, running.port, arguments.rounds, arguments.seconds, console)


def _described(images: Images) -> dict[str, Any]:
    return {"name": "images", "shape": list(images.shape), "datatype": "UINT8"}


def _count(images: Images) -> str:
    return "one image" if len(images) == 1 else f"{len(images)} images"


def _binary(images: Images, concurrency: int, _: int) -> Workload:
    tensor = {**_described(images), "parameters": {"binary_data_size": images.nbytes}}
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    stated = {"Inference-Header-Content-Length": str(len(head))}
    media_type, body = "application/octet-stream", head + images.tobytes()
    return Workload(f"{_count(images)}, V2 binary", _INFER, media_type, [body], len(images), concurrency, stated)


def _json(images: Images, concurrency: int, _: int) -> Workload:
    body = json.dumps({"inputs": [{**_described(images), "data": images.ravel().tolist()}]}).encode()
    return Workload(f"{_count(images)}, V2 JSON", _INFER, "application/json", [body], len(images), concurrency)


def _as_jpeg(images: Images, concurrency: int, _: int) -> Workload:
    jpegs = [as_jpeg(pixels) for pixels in images]
    media_type, body = "image/jpeg", jpegs[0]
    if len(jpegs) > 1:
        media_type = f"multipart/form-data; boundary={_BOUNDARY}"
        head = f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="files"; filename="a.jpg"\r\n\r\n'.encode()
        body = b"".join([head + jpeg + b"\r\n" for jpeg in jpegs]) + f"--{_BOUNDARY}--\r\n".encode()
    return Workload(f"{_count(images)}, /v1 JPEG", "/v1/predict", media_type, [body], len(images), concurrency)


def _over_grpc(images: Images, concurrency: int, port: int) -> Workload:
    request = pb.InferRequest(model_name=_MODEL, inputs=[_described(images)], raw_input_contents=[images.tobytes()])
    body = request.SerializeToString()
    return _OverGrpc(f"{_count(images)}, gRPC", "", "", [body], len(images), concurrency, grpc_port=port)


@dataclass(frozen=True)
class _OverGrpc(Workload):
    """Messages over one channel, `concurrency` at a time."""

    grpc_port: int = 0

    def measure(self, _: int, seconds: float) -> Load:
        return asyncio.run(self._measure(seconds))

    async def _measure(self, seconds: float) -> Load:
        latencies: list[float] = []
        async with grpc.aio.insecure_channel(f"127.0.0.1:{self.grpc_port}") as channel:
            infer = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
            await channel.channel_ready()
            began = time.perf_counter()

            async def client() -> None:
                while (started := time.perf_counter()) < began + seconds:
                    await infer(self.bodies[0])
                    latencies.append(time.perf_counter() - started)

            try:
                await asyncio.gather(*(client() for _ in range(self.concurrency)))
            except grpc.RpcError as error:
                raise LoadFailed(str(error)) from None
            rate = len(latencies) / (time.perf_counter() - began)
        median, p99 = np.percentile(latencies, (50, 99)) * 1000
        return Load(rate, float(median), float(p99))


if __name__ == "__main__":
    main()
