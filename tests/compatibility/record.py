"""Records what the client and the server of an earlier version are, for the tests of compatibility.

Writes client-VERSION.zip, the code of the client, and server-VERSION.json, the requests of today's client and what the
server answered. Run it after a release, in a clone with all commits:

python -m tests.compatibility.record v0.2.0
"""

import argparse
import asyncio
import base64
import io
import json
import re
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import httpx

import quartet
from benchmarks.servers import service
from tests.compatibility.calls import call_everything

FOLDER = Path(__file__).parent
# Of all tasks, and without anything that 0.1 did not know.
MODELS = FOLDER / "models" / "3-familiarity"
# The modules of the client, without commands.
_CLIENT = [
    "__init__", "api", "asynchronous", "background", "calls", "client", "display", "errors", "http", "inputs", "lists",
    "options", "results",
]  # fmt: skip


class Recorder(httpx.AsyncBaseTransport):
    """Sends requests to a server, and keeps what it answers.

    Attributes:
        exchanges: each a request without its body, which may differ in every run, and the response.
    """

    def __init__(self) -> None:
        self._network = httpx.AsyncHTTPTransport()
        self.exchanges: list[dict[str, Any]] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        response = await self._network.handle_async_request(request)
        body = await response.aread()
        kept = [(name, value) for name, value in response.headers.items() if name not in ("date", "connection")]
        binary = not response.headers.get("content-type", "").endswith(("json", "plain"))
        exchange = {
            "request": [request.method, request.url.raw_path.decode(), request.headers.get("content-type", "")],
            "status": response.status_code,
            "headers": kept,
            "body": base64.b64encode(body).decode() if binary else body.decode(),
            "base64": binary,
        }
        exchange["request"][2] = exchange["request"][2].partition(";")[0]  # without a random boundary
        self.exchanges.append(exchange)
        return httpx.Response(response.status_code, headers=response.headers, content=body)

    async def aclose(self) -> None:
        await self._network.aclose()


def main() -> None:
    """Writes both files."""
    parser = argparse.ArgumentParser(prog="python -m tests.compatibility.record", description=__doc__)
    parser.add_argument("commit", help="of the version, such as its tag")
    commit = parser.parse_args().commit
    archive = subprocess.run(["git", "archive", commit, "quartet", "service"], capture_output=True, check=True).stdout
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        with tarfile.open(fileobj=io.BytesIO(archive)) as packed:
            packed.extractall(root, filter="data")
        found = re.search(r'__version__ = "(.*)"', (root / "quartet" / "__init__.py").read_text())
        assert found is not None
        version = found[1]
        _write_client(root, FOLDER / f"client-{version}.zip")
        with service(
            MODELS, {"open": "1", "variant": "reference"}, checkout=root, variables={"PYTHONPATH": name}
        ) as running:
            exchanges, failed = asyncio.run(_record(f"http://127.0.0.1:{running.port}"))
    (FOLDER / f"server-{version}.json").write_text(json.dumps(exchanges, indent=1) + "\n")
    print(f"{len(exchanges)} exchanges with the server of {version}, by the client of {quartet.__version__}")
    if failed:
        sys.exit(f"error: {failed}")


def _write_client(root: Path, path: Path) -> None:
    modules = [root / "quartet" / f"{name}.py" for name in _CLIENT]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target:
        for module in [*modules, *sorted((root / "quartet" / "answers").glob("*.py"))]:
            # Without the time of the file: the same code is the same archive.
            target.writestr(
                zipfile.ZipInfo(str(module.relative_to(root))), module.read_bytes(), zipfile.ZIP_DEFLATED, 9
            )


async def _record(url: str) -> tuple[list[dict[str, Any]], str]:
    recorder, failed = Recorder(), ""
    async with quartet.AsyncClient(url, retry_for=0, concurrency=1, transport=recorder) as client:
        try:
            await call_everything(client)
        except (AssertionError, quartet.QuartetError) as error:
            failed = repr(error)
    return recorder.exchanges, failed


if __name__ == "__main__":
    main()
