"""How much memory a large binary request takes beside its body: nothing that is as large."""

import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from fastapi import FastAPI
from onnx import helper

from service.api.grpc.messages import pb, read_message, read_request
from service.app import create_app
from service.settings import Settings
from service.tasks.registry import read_manifest
from tests.tiny_tensors import write_tensors

LENGTH, ITEMS = 200_000, 64
SIZE = LENGTH * ITEMS
TENSOR = {"name": "x", "shape": [ITEMS, LENGTH], "datatype": "INT8"}


def write_largest(models: Path) -> Path:
    """The largest of many values."""
    golden = np.ones((2, LENGTH), np.int8)
    return write_tensors(
        models,
        "largest",
        [helper.make_node("ReduceMax", ["x"], ["y"], axes=[1], keepdims=0)],
        {"x": ("int8", ["batch", LENGTH])},
        {"y": ("int8", ["batch"])},
        {"x": golden, "y": golden[:, 0]},
        max_batch=ITEMS,
    )


def peak(work: Callable[[], Any]) -> float:
    """The most memory that was allocated at a time, as a multiple of the tensor."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1] / SIZE
    finally:
        tracemalloc.stop()


async def post(app: FastAPI, chunk: int) -> dict[str, Any]:
    """Sends the request in chunks, each of which is made when the server asks for it."""
    tensor = {**TENSOR, "parameters": {"binary_data_size": SIZE}}
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    sent, answer = 0, bytearray()

    async def receive() -> dict[str, Any]:
        nonlocal sent
        if not sent:
            sent = len(head)
            return {"type": "http.request", "body": head, "more_body": True}
        size = min(chunk, len(head) + SIZE - sent)
        sent += size
        return {"type": "http.request", "body": b"\x07" * size, "more_body": sent < len(head) + SIZE}

    async def send(message: dict[str, Any]) -> None:
        answer.extend(message.get("body", b""))

    headers = {"inference-header-content-length": len(head), "content-length": len(head) + SIZE, "host": "localhost"}
    scope = {
        "type": "http", "http_version": "1.1", "method": "POST", "query_string": b"",
        "path": "/v2/models/largest/infer",
        "headers": [(name.encode(), str(value).encode()) for name, value in headers.items()],
        "client": ("127.0.0.1", 1),
    }  # fmt: skip
    tracemalloc.start()
    try:
        await app(scope, receive, send)
        return {"answer": bytes(answer), "peak": tracemalloc.get_traced_memory()[1] / SIZE}
    finally:
        tracemalloc.stop()


async def test_a_batch_over_rest_is_in_memory_once(tmp_path: Path):
    write_largest(tmp_path)
    app = create_app(Settings(models=tmp_path, device="cpu", threads=1, log_level="error"))
    async with app.router.lifespan_context(app):
        found = await post(app, 1 << 16)
    assert found["answer"].endswith(b"\x07" * ITEMS)
    # The body grows by an eighth at a time.
    assert found["peak"] < 1.25


def test_a_message_is_read_without_copies(tmp_path: Path):
    manifest = read_manifest(write_largest(tmp_path))
    request = pb.InferRequest(model_name="largest", inputs=[TENSOR], raw_input_contents=[b"\x07" * SIZE])
    content = request.SerializeToString()
    assert peak(lambda: read_request(read_message(content), manifest, ITEMS)) < 0.1
    items = read_request(read_message(content), manifest, ITEMS).items
    assert np.shares_memory(items.arrays[0], np.frombuffer(content, np.uint8))
