"""HTTP over raw connections: what is sent need be no HTTP at all, and an answer may come before the end of it."""

import asyncio
import contextlib
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

HOST = "127.0.0.1"
# Bytes that are handed to a connection at once: it would copy what it cannot send.
_PIECE = 1 << 18
_LONGEST_HEAD = 1 << 20


class Gone(Exception):
    """The connection ended, or never began, before there was a whole answer."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer as it came.

    Attributes:
        status: of HTTP.
        headers: names in lower case.
        size: bytes of head and body.
        body: empty unless it was to be kept; without the framing of chunks.
    """

    status: int
    headers: Mapping[str, str]
    size: int
    body: bytes


def head(
    path: str,
    length: int | None = None,
    media_type: str | None = None,
    *,
    method: str = "POST",
    version: str = "1.1",
    headers: Iterable[str] = (),
) -> bytes:
    """A request's head; `headers` are further lines."""
    lines = [f"{method} {path} HTTP/{version}", "Host: 127.0.0.1", *headers]
    if media_type is not None:
        lines.append(f"Content-Type: {media_type}")
    if length is not None:
        lines.append(f"Content-Length: {length}")
    return "\r\n".join((*lines, "", "")).encode()


class Connection:
    """One connection to the server."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, port: int) -> "Connection":
        """Connects.

        Raises:
            Gone: the server is not there.
        """
        try:
            return cls(*await asyncio.open_connection(HOST, port, limit=_LONGEST_HEAD))
        except OSError as error:
            raise Gone from error

    async def send(self, *parts: bytes) -> None:
        """Sends bytes as fast as they are taken.

        Raises:
            Gone: the connection has ended.
        """
        try:
            for part in parts:
                view = memoryview(part)
                for start in range(0, len(view), _PIECE):
                    self._writer.write(view[start : start + _PIECE])
                    await self._writer.drain()
        except OSError as error:
            raise Gone from error

    def end(self) -> None:
        """Shuts down the sending side; an answer can still come."""
        with contextlib.suppress(OSError):
            self._writer.write_eof()

    async def answer(self, *, keep: bool = False) -> Answer:
        """The next answer.

        Raises:
            Gone: the connection ended before the end of it.
        """
        try:
            return await self._answer(keep)
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError) as error:
            raise Gone from error

    async def ask(self, *parts: bytes, keep: bool = False) -> Answer:
        """Sends a request, and no more of it once there is an answer.

        Raises:
            Gone: the connection ended without a whole answer.
        """
        sending = asyncio.ensure_future(self.send(*parts))
        try:
            return await self.answer(keep=keep)
        finally:
            sending.cancel()
            with contextlib.suppress(Gone, asyncio.CancelledError):
                await sending

    async def silent(self, seconds: float) -> bool:
        """Whether the server leaves the connection open for so long without a byte."""
        try:
            async with asyncio.timeout(seconds):
                await self._reader.read(1)
                return False
        except TimeoutError:
            return True
        except OSError:
            return False

    def close(self) -> None:
        """Ends the connection at once."""
        self._writer.transport.abort()

    async def _answer(self, keep: bool) -> Answer:
        raw = await self._reader.readuntil(b"\r\n\r\n")
        first, *lines = raw.decode("latin-1").split("\r\n")
        headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        status = int(first.split()[1])
        kept: list[bytes] = []
        size = len(raw)
        if headers.get("transfer-encoding", "").lower() == "chunked":
            while length := int(await self._reader.readline(), 16):
                size += await self._take(length, kept, keep)
                await self._reader.readexactly(2)
            await self._reader.readline()
        elif "content-length" in headers:
            size += await self._take(int(headers["content-length"]), kept, keep)
        else:
            size += await self._take(None, kept, keep)
        return Answer(status, headers, size, b"".join(kept))

    async def _take(self, length: int | None, kept: list[bytes], keep: bool) -> int:
        """Reads so many bytes, or all that come."""
        taken = 0
        while length is None or taken < length:
            part = await self._reader.read(_PIECE if length is None else min(_PIECE, length - taken))
            if not part:
                if length is None:
                    break
                raise asyncio.IncompleteReadError(b"", length)
            taken += len(part)
            if keep:
                kept.append(part)
        return taken


async def unread(port: int, request: bytes) -> socket.socket:
    """A connection with a small buffer that has sent a request; nobody reads from it.

    Raises:
        Gone: the server is not there.
    """
    loop = asyncio.get_running_loop()
    connection = socket.socket()
    connection.setblocking(False)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    try:
        await loop.sock_connect(connection, (HOST, port))
        await loop.sock_sendall(connection, request)
    except OSError as error:
        connection.close()
        raise Gone from error
    return connection
