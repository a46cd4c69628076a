"""The whole application on CUDA, on the CPU: fixed shapes, threads, and the end of a process whose GPU is lost."""

import asyncio
import threading
from pathlib import Path

import httpx
import pytest

from service.app import create_app
from service.settings import Settings
from tests.cuda import LOST, fake_cuda
from tests.pictures import encode
from tests.server import Server
from tests.tiny import SIZE, solid, write_model
from tests.tiny_text import write_topics

IMAGE = encode(solid("green"))


async def test_every_request_runs_in_fixed_shapes_and_never_on_the_event_loop(tmp_path: Path):
    write_model(tmp_path)
    write_topics(tmp_path)
    answers = {}
    with fake_cuda() as recorded:
        for device in ("cpu", "cuda:1"):
            app = create_app(Settings(models=tmp_path, device=device, threads=1))
            transport = httpx.ASGITransport(app)
            async with (
                app.router.lifespan_context(app),
                httpx.AsyncClient(transport=transport, base_url="http://quartet") as client,
            ):
                recorded.threads.clear()
                answers[device] = [
                    await client.post(
                        "/v1/predict", files=[("files", (f"{index}.png", IMAGE)) for index in range(count)]
                    )
                    for count in (1, 2, 9, 20)
                ]
                document = {"texts": ["cat " * length for length in (1, 2, 4, 40)]}
                answers[device].append(await client.post("/v1/classify-text", json=document))
    for answer, expected in zip(answers["cuda:1"], answers["cpu"], strict=True):
        assert (answer.status_code, expected.status_code) == (200, 200)
        assert answer.json()["device"] == "cuda:1"
        assert answer.json()["results"] == expected.json()["results"]
    images = {(size, SIZE, SIZE, 3) for size in (1, 8, 16)}
    assert {shape for (shape,) in recorded.runs} <= images | {
        (size, long) for size in (1, 8, 16) for long in (1, 3, 12)
    }
    assert all(name.startswith("scheduler-cuda:1") for name in recorded.threads)
    assert recorded.threads


def test_a_lost_gpu_ends_the_process_with_the_reason_in_the_log(tiny_models: Path):
    server = Server(module="tests.lost_gpu", models=tiny_models, device="cuda")
    with server.client() as client, pytest.raises(httpx.TransportError):
        client.post("/v1/predict", content=IMAGE)
    assert server.wait() == 3
    assert (
        "CRITICAL service.inference.device cuda is unusable after CUDA error 700, an illegal memory access"
        in server.lines[-1]
    )


async def test_a_gpu_that_is_lost_while_models_load(tiny_models: Path, monkeypatch: pytest.MonkeyPatch):
    codes: list[int] = []
    over, released = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def end(code: int) -> None:
        codes.append(code)
        loop.call_soon_threadsafe(over.set)
        released.wait(30)

    monkeypatch.setattr("os._exit", end)
    app = create_app(Settings(models=tiny_models, device="cuda", threads=1))
    with fake_cuda() as recorded:
        recorded.errors = [RuntimeError(LOST)]
        starting = asyncio.create_task(app.router.lifespan_context(app).__aenter__())
        await asyncio.wait_for(over.wait(), 30)
        starting.cancel()
        released.set()
    assert codes == [3]
