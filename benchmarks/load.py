"""A lightweight load generator: wrk if it is installed, otherwise a client written with asyncio."""

import asyncio
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

_REPORT = """
done = function(summary, latency, requests)
  io.write(string.format("RESULT %d %d %d %d %d %d\\n", summary.requests, summary.duration,
    latency.mean, latency:percentile(50), latency:percentile(99),
    summary.errors.status + summary.errors.connect + summary.errors.read + summary.errors.write
    + summary.errors.timeout))
end
"""


@dataclass(frozen=True, slots=True)
class Load:
    """What a client measured: requests per second, and median and 99th percentile latency in milliseconds."""

    rate: float
    median_ms: float
    p99_ms: float


class LoadFailed(Exception):
    """The server answered with a status other than 200, or the load generator failed."""


def measure(
    port: int,
    path: str,
    bodies: Sequence[bytes],
    concurrency: int,
    seconds: float,
    media_type: str = "image/jpeg",
    key: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> Load:
    """Posts `bodies` in turn over `concurrency` keep-alive connections for `seconds`, with an API key if one is given.

    Raises:
        LoadFailed: a request failed.
    """
    authorization = {"Authorization": f"Bearer {key}"} if key else {}
    headers = {"Content-Type": media_type, **authorization, **(headers or {})}
    if shutil.which("wrk"):
        return _wrk(port, path, bodies, concurrency, seconds, headers)
    return asyncio.run(_connections(port, path, bodies, concurrency, seconds, headers))


def _wrk(
    port: int, path: str, bodies: Sequence[bytes], concurrency: int, seconds: float, headers: Mapping[str, str]
) -> Load:
    table = ", ".join(f'["{name}"] = "{value}"' for name, value in headers.items())
    with tempfile.TemporaryDirectory() as folder:
        for index, body in enumerate(bodies):
            (Path(folder) / f"{index}.body").write_bytes(body)
        script = Path(folder) / "post.lua"
        script.write_text(
            f"""
local requests, turn = {{}}, 0
init = function(args)
  for i = 0, {len(bodies) - 1} do
    local file = io.open("{folder}/" .. i .. ".body", "rb")
    requests[i] = wrk.format("POST", "{path}", {{{table}}}, file:read("*a"))
    file:close()
  end
end
request = function() turn = (turn + 1) % {len(bodies)}; return requests[turn] end
"""
            + _REPORT
        )
        duration = max(1, round(seconds))
        command = ["wrk", "-t1", f"-c{concurrency}", f"-d{duration}s", "-s", str(script), f"http://127.0.0.1:{port}"]
        output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = re.search(r"RESULT (\d+) (\d+) (\d+) (\d+) (\d+) (\d+)", output)
    if not found:
        raise LoadFailed(output)
    requests, microseconds, mean, median, p99, errors = map(int, found.groups())
    if errors:
        raise LoadFailed(f"{errors} of {requests} requests failed:\n{output}")
    # wrk does not count requests in flight at the end, which are a large fraction if there are few requests.
    few = requests < 100 * concurrency
    rate = concurrency / mean if few else requests / microseconds
    return Load(rate * 1e6, median / 1000, p99 / 1000)


async def _connections(
    port: int, path: str, bodies: Sequence[bytes], concurrency: int, seconds: float, headers: Mapping[str, str]
) -> Load:
    stated = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    end = time.perf_counter() + seconds
    latencies: list[float] = []

    async def client(number: int) -> float:
        began, answered = time.perf_counter(), 0
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        turn = number
        while (started := time.perf_counter()) < end:
            body = bodies[turn % len(bodies)]
            turn += 1
            head = f"POST {path} HTTP/1.1\r\nHost: bench\r\n{stated}"
            writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
            answer = await reader.readuntil(b"\r\n\r\n")
            if not answer.startswith(b"HTTP/1.1 200"):
                raise LoadFailed(answer.decode("latin-1"))
            await _read_body(reader, answer)
            latencies.append(time.perf_counter() - started)
            answered += 1
        writer.close()
        # The last answer came after `end`, so divide by the time that really passed.
        return answered / (time.perf_counter() - began)

    rates = await asyncio.gather(*(client(number) for number in range(concurrency)))
    median, p99 = np.percentile(latencies, (50, 99)) * 1000
    return Load(sum(rates), float(median), float(p99))


async def _read_body(reader: asyncio.StreamReader, head: bytes) -> None:
    """Reads and discards a body with a Content-Length or in chunks (RFC 9112, 7.1)."""
    length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
    if length:
        await reader.readexactly(int(length[1]))
        return
    while size := int(await reader.readline(), 16):
        await reader.readexactly(size + 2)
    await reader.readline()
