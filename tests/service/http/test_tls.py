"""TLS on real sockets: handshakes are counted and bounded, and requests are answered as without it."""

import asyncio
import contextlib
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from service.certificate import Certificate
from service.http import tls
from service.http.connection import Connection
from service.http.pool import Pool
from service.http.tls import Tls
from tests.certificates import needs_openssl, trusting, write_certificate
from tests.service.http.wire import empty

pytestmark = needs_openssl
REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
_App = Callable[[Any, Any, Any], Awaitable[None]]


class Listening:
    """A server in this process.

    Attributes:
        made: the protocol of each TCP connection.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        write_certificate(folder)
        self.certificate = Certificate(folder / "cert.pem", folder / "key.pem")
        self.state = ServerState()
        self.pool = Pool(1000)
        self.app: _App = empty
        self.made: list[Tls] = []

    def protocol(self) -> Tls:
        connection = Connection(
            self.app,
            self.pool,
            config=uvicorn.Config(self.app, log_config=None),
            server_state=self.state,
            app_state={},
        )
        self.made.append(Tls(self.certificate.context, connection, self.pool, self.state))
        return self.made[-1]

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A TCP connection."""
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def secured(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection after its handshake."""
        return await asyncio.open_connection("127.0.0.1", self.port, ssl=trusting(self.folder / "cert.pem"))


@pytest.fixture
async def listening(tmp_path: Path) -> AsyncIterator[Listening]:
    listening = Listening(tmp_path)
    server = await asyncio.get_running_loop().create_server(listening.protocol, "127.0.0.1", 0)
    listening.port = server.sockets[0].getsockname()[1]
    yield listening
    server.close()
    for each in listening.made:
        each.abort()
    await asyncio.sleep(0.01)
    assert not listening.pool.members
    assert not listening.state.connections


class Client:
    """TLS over a TCP connection, step by step."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, context: ssl.SSLContext) -> None:
        self.reader, self.writer = reader, writer
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_hostname="localhost")

    @classmethod
    async def open(cls, listening: Listening) -> "Client":
        client = cls(*await listening.connect(), trusting(listening.folder / "cert.pem"))
        await client.do(client.tls.do_handshake)
        return client

    async def do(self, step: Callable[[], Any]) -> Any:
        """Takes a step of TLS, with as many bytes as it needs."""
        while True:
            try:
                found = step()
            except ssl.SSLWantReadError:
                self.send()
                data = await self.reader.read(1 << 16)
                if data:
                    self.incoming.write(data)
                else:
                    self.incoming.write_eof()
            else:
                self.send()
                return found

    def send(self) -> None:
        if data := self.outgoing.read():
            self.writer.write(data)

    def write(self, data: bytes) -> None:
        self.tls.write(data)
        self.send()

    def end(self) -> None:
        """Sends a close_notify."""
        with contextlib.suppress(ssl.SSLError):
            self.tls.unwrap()
        self.send()

    async def answer(self) -> bytes:
        """All that comes until the end."""
        answer = b""
        while True:
            try:
                part = await self.do(lambda: self.tls.read(1 << 16))
            except (ssl.SSLError, ConnectionError):
                return answer
            if not part:
                return answer
            answer += part


async def test_the_scope_of_a_request(listening: Listening):
    scopes = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scopes.append(scope)
        await empty(scope, receive, send)

    listening.app = app
    reader, writer = await listening.secured()
    writer.write(REQUEST)
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
    assert (scopes[0]["scheme"], scopes[0]["client"]) == ("https", writer.get_extra_info("sockname"))
    writer.close()


async def test_http_1_1_is_agreed_on(listening: Listening):
    context = trusting(listening.folder / "cert.pem")
    context.set_alpn_protocols(["h2", "http/1.1"])
    _, writer = await asyncio.open_connection("127.0.0.1", listening.port, ssl=context)
    assert writer.get_extra_info("ssl_object").selected_alpn_protocol() == "http/1.1"
    writer.close()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_bodies_of_megabytes_in_both_directions(listening: Listening, version: ssl.TLSVersion):
    async def echo(scope: Any, receive: Any, send: Any) -> None:
        body = b""
        while (message := await receive())["more_body"]:
            body += message["body"]
        body += message["body"]
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"3000000")]})
        await send({"type": "http.response.body", "body": body})

    listening.app = echo
    context = trusting(listening.folder / "cert.pem")
    context.minimum_version = context.maximum_version = version
    reader, writer = await asyncio.open_connection("127.0.0.1", listening.port, ssl=context)
    body = bytes(range(250)) * 12_000
    for _ in range(2):  # the connection is kept
        writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3000000\r\n\r\n" + body)
        await reader.readuntil(b"\r\n\r\n")
        assert await reader.readexactly(3_000_000) == body
    writer.close()


async def test_a_request_that_comes_with_the_end_of_the_handshake_is_read(listening: Listening):
    client = Client(*await listening.connect(), trusting(listening.folder / "cert.pem"))
    with pytest.raises(ssl.SSLWantReadError):
        client.tls.do_handshake()
    client.send()
    while True:
        client.incoming.write(await client.reader.read(1 << 16))
        try:
            client.tls.do_handshake()
            break
        except ssl.SSLWantReadError:
            client.send()
    client.write(REQUEST.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
    assert (await client.answer()).startswith(b"HTTP/1.1 200 ")
    client.writer.close()


async def slow(scope: Any, receive: Any, send: Any) -> None:
    await asyncio.sleep(0.05)
    await empty(scope, receive, send)


@pytest.mark.parametrize("notify", [True, False], ids=["close_notify", "FIN"])
async def test_a_client_that_closes_its_sending_side_gets_its_answer(listening: Listening, notify: bool):
    listening.app = slow
    client = await Client.open(listening)
    client.write(REQUEST)
    if notify:
        client.end()
    else:
        client.writer.write_eof()
    assert (await client.answer()).startswith(b"HTTP/1.1 200 ")
    client.writer.close()


async def test_what_follows_the_end_is_not_kept(listening: Listening):
    listening.app = slow
    client = await Client.open(listening)
    client.write(REQUEST)
    client.end()
    for _ in range(50):
        client.writer.write(bytes(100_000))
    await asyncio.sleep(0.03)
    assert listening.made[0]._incoming.pending < 200_000
    client.writer.close()


async def test_the_end_of_a_connection_is_said(listening: Listening):
    client = await Client.open(listening)
    client.write(REQUEST.replace(b"1.1", b"1.0"))
    assert b"connection: close" in await client.do(lambda: client.tls.read(1 << 16))
    client.tls.unwrap()  # would raise without a close_notify
    client.writer.close()


async def test_what_is_no_tls_ends_its_connection_alone(listening: Listening):
    _, kept = await listening.secured()
    reader, writer = await listening.connect()
    writer.write(REQUEST)
    assert b"HTTP" not in await reader.read()
    assert len(listening.pool.members) == 1
    writer.close()
    kept.close()


async def test_handshakes_count_as_connections_and_the_oldest_gives_way(listening: Listening):
    listening.pool.most = 5
    silent = []
    for _ in range(5):
        silent.append(await listening.connect())
        await asyncio.sleep(0.01)
    assert len(listening.pool.members) == 5
    reader, writer = await listening.secured()
    writer.write(REQUEST)
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
    assert len(listening.pool.members) == 5
    assert await asyncio.wait_for(silent[0][0].read(), 5) == b""
    for _, each in (*silent, (reader, writer)):
        each.close()


async def test_a_handshake_that_takes_too_long_is_ended(listening: Listening):
    reader, writer = await listening.connect()
    writer.write(b"\x16\x03\x01\x02\x00\x01")  # the beginning of a handshake
    await asyncio.sleep(0.02)
    (handshake,) = listening.made
    handshake.check(time.monotonic() + tls._HANDSHAKE_SECONDS - 1)
    assert not handshake.is_closing()
    handshake.check(time.monotonic() + tls._HANDSHAKE_SECONDS + 1)
    with contextlib.suppress(ConnectionError):
        assert await asyncio.wait_for(reader.read(), 5) == b""
    writer.close()


async def test_a_server_that_ends_answers_who_has_just_connected_and_does_not_wait_for_others(
    listening: Listening, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(tls, "_LAST_HANDSHAKE_SECONDS", 0.2)
    silent, writer = await listening.connect()
    client = Client(*await listening.connect(), trusting(listening.folder / "cert.pem"))
    await asyncio.sleep(0.02)
    for each in list(listening.state.connections):
        each.shutdown()
    listening.pool.draining = True
    await client.do(client.tls.do_handshake)
    client.write(REQUEST)
    answer = await client.answer()
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"connection: close" in answer
    with contextlib.suppress(ConnectionError):
        assert await asyncio.wait_for(silent.read(), 5) == b""
    client.writer.close()
    writer.close()


async def test_few_handshakes_are_computed_in_a_step_of_the_event_loop(
    listening: Listening, monkeypatch: pytest.MonkeyPatch
):
    steps: list[int] = []
    loop = asyncio.get_running_loop()
    step, counting = 0, True

    def count() -> None:
        nonlocal step
        step += 1
        if counting:
            loop.call_soon(count)

    shake = Tls._shake

    def counted(self: Tls) -> None:
        steps.append(step)
        shake(self)

    monkeypatch.setattr(Tls, "_shake", counted)
    clients = [Client(*await listening.connect(), trusting(listening.folder / "cert.pem")) for _ in range(20)]
    await asyncio.sleep(0.05)
    loop.call_soon(count)
    for client in clients:
        with pytest.raises(ssl.SSLWantReadError):
            client.tls.do_handshake()
        client.send()
    await asyncio.sleep(0.2)
    counting = False
    assert len(steps) >= 20
    assert max(steps.count(each) for each in steps) <= 4
    for client in clients:
        client.writer.close()


async def test_a_slow_reader_pauses_the_answer(listening: Listening):
    written = 0

    async def endless(scope: Any, receive: Any, send: Any) -> None:
        nonlocal written
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while True:
            await send({"type": "http.response.body", "body": bytes(50_000), "more_body": True})
            written += 50_000

    listening.app = endless
    client = await Client.open(listening)
    client.write(REQUEST)
    await asyncio.sleep(0.3)
    before = written
    await asyncio.sleep(0.1)
    assert 0 < written == before < 50_000_000
    assert listening.made[0].get_write_buffer_size() > 0
    for task in list(listening.state.tasks):
        task.cancel()
    client.writer.close()


async def test_new_connections_get_the_renewed_certificate_and_others_go_on(listening: Listening):
    reader, writer = await listening.secured()
    write_certificate(listening.folder)
    listening.certificate.refresh()
    listening.certificate.refresh()
    _, newer = await listening.secured()  # trusts the new one alone
    writer.write(REQUEST)
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
    writer.close()
    newer.close()
