"""A client of the version before works with this server, and this client with a server of the version before."""

import base64
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

import quartet
from tests.compatibility import calls
from tests.compatibility.record import FOLDER, MODELS
from tests.server import Server

CLIENT, SERVER = FOLDER / "client-0.1.0.zip", FOLDER / "server-0.1.0.json"


class Replayed(httpx.AsyncBaseTransport):
    """Answers as the server of an earlier version has answered the same requests, in their order."""

    def __init__(self, exchanges: list[dict[str, Any]]) -> None:
        self._left = exchanges

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        await request.aread()
        asked = [
            request.method,
            request.url.raw_path.decode(),
            request.headers.get("content-type", "").partition(";")[0],
        ]
        assert self._left, asked
        exchange = self._left.pop(0)
        assert exchange["request"] == asked
        body = base64.b64decode(exchange["body"]) if exchange["base64"] else exchange["body"].encode()
        headers = [(name, value) for name, value in exchange["headers"] if name != "transfer-encoding"]
        return httpx.Response(exchange["status"], headers=headers, content=body)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """This version's server."""
    running = Server(models=MODELS, variant="reference")
    yield running
    assert running.stop() == 0, "".join(running.lines)


def test_the_client_before_works_with_this_server(server: Server, tmp_path: Path):
    done = subprocess.run(
        [sys.executable, "-W", "error", calls.__file__, server.url],
        env={"PYTHONPATH": str(CLIENT)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    version, *answered = done.stdout.split()
    assert version == "0.1.0"
    assert version != quartet.__version__
    assert len(answered) == 10


async def test_this_client_works_with_the_server_before():
    exchanges = json.loads(SERVER.read_text())
    transport = Replayed(exchanges)
    async with quartet.AsyncClient("http://x", retry_for=0, concurrency=1, transport=transport) as client:
        await calls.call_everything(client)
    assert exchanges == []
