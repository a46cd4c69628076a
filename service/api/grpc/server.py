"""The gRPC server: the calls of the Open Inference Protocol, and those that Triton adds."""

import asyncio
import itertools
import logging
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import grpc
from google.protobuf.json_format import ParseDict

from service.access.caller import charge, models_of, owner_of, visible
from service.access.gate import authorise_key, check_model
from service.access.keys import KeyRing
from service.api.grpc.messages import pb, read_message, read_request, read_small, write_response
from service.api.v2 import answers
from service.api.v2.descriptions import describe_server
from service.api.v2.statistics import Statistics
from service.certificate import Certificate
from service.errors import Abandoned, DeadlineExceeded, InvalidRequest, QuartetError, UnknownModel
from service.inference.scope import CallScope
from service.observe.events import RequestEnded
from service.stack.application import Application
from service.stack.failures import INTERNAL

logger = logging.getLogger("service.grpc")

_SERVICE = "inference.GRPCInferenceService"
# By the status of an error over HTTP.
_CODES = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    409: grpc.StatusCode.FAILED_PRECONDITION,
    413: grpc.StatusCode.INVALID_ARGUMENT,
    422: grpc.StatusCode.INVALID_ARGUMENT,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    501: grpc.StatusCode.UNIMPLEMENTED,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
}
# Of a message beside its tensors.
_ROOM_BYTES = 1 << 20
# Messages that arrive at a time: gRPC has no way to refuse one by its size before it is in memory.
_MOST_READING = 16
# A message that takes longer gives way while others wait.
_SLOW_SECONDS = 5.0
# Clients connect again by themselves.
_IDLE_MS = 60_000
_HANDSHAKE_MS = 10_000
_HEALTH = "/v2/health/"
# Calls of Triton's that would otherwise be answered without a reason.
_NOT_OFFERED = (
    "ModelStreamInfer",
    "TraceSetting",
    "LogSettings",
    *(f"{kind}SharedMemory{action}" for kind in ("System", "Cuda") for action in ("Status", "Register", "Unregister")),
)

_Context = Any
_Message = Any
# Answers a request that came through the gate; the scope is that of an ASGI request.
_Answer = Callable[[_Message, dict[str, Any], _Context], Awaitable[Any]]


class GrpcServer:
    """Serves the models of an application on a port of its own.

    Args:
        app: with its models loaded.
        ring: the API keys, as for `Gate`.
        unknown: likewise.
        statistics: of the models.
    """

    def __init__(
        self,
        app: Application,
        ring: KeyRing | None,
        unknown: Callable[[Any, str], QuartetError],
        statistics: Statistics,
    ) -> None:
        self._app, self._ring, self._unknown, self._statistics = app, ring, unknown, statistics
        self._reading, self._waiting = asyncio.Semaphore(_MOST_READING), 0
        self._prefix, self._numbers = secrets.token_hex(3), itertools.count(1)
        most = int(app.settings.max_body_mb * 1_000_000) + _ROOM_BYTES
        self._server = grpc.aio.server(
            options=[
                ("grpc.max_receive_message_length", most),
                ("grpc.max_send_message_length", -1),
                ("grpc.max_metadata_size", 1 << 16),
                ("grpc.max_concurrent_streams", 256),
                ("grpc.max_allowed_incoming_connections", app.settings.max_connections),
                ("grpc.max_connection_idle_ms", _IDLE_MS),
                ("grpc.server_handshake_timeout_ms", _HANDSHAKE_MS),
                # Otherwise gRPC buffers megabytes of each message before it is read here.
                ("grpc.http2.bdp_probe", 0),
            ],
            maximum_concurrent_rpcs=app.settings.max_connections,
        )
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(_SERVICE, self._handlers()),))

    async def start(self, host: str, port: int, certificate: Certificate | None = None) -> int:
        """Listens, over TLS if there is a certificate; returns the port. Raises OSError if it cannot be listened on."""
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        try:
            if certificate:
                bound = self._server.add_secure_port(address, _credentials(certificate))
            else:
                bound = self._server.add_insecure_port(address)
        except RuntimeError as error:
            raise OSError(f"cannot listen on {address} for gRPC: set QUARTET_GRPC_PORT to a free port.") from error
        await self._server.start()
        return int(bound)

    async def stop(self, grace: float) -> None:
        """Refuses new calls and gives those that run `grace` seconds."""
        await self._server.stop(grace)

    def _handlers(self) -> dict[str, Any]:
        app = self._app

        async def live(_request: _Message, _scope: Any, _context: _Context) -> _Message:
            return pb.Live(live=answers.is_live(app))

        async def ready(_request: _Message, _scope: Any, _context: _Context) -> _Message:
            return pb.Ready(ready=answers.is_ready(app))

        async def model_ready(request: _Message, scope: Any, _context: _Context) -> _Message:
            return pb.Ready(ready=answers.model_ready(app, scope, request.name, request.version or None))

        async def server(_request: _Message, _scope: Any, _context: _Context) -> _Message:
            return ParseDict(describe_server(), pb.Server())

        async def model(request: _Message, scope: Any, _context: _Context) -> _Message:
            return ParseDict(answers.model_metadata(app, scope, request.name, request.version or None), pb.Model())

        async def configuration(request: _Message, scope: Any, _context: _Context) -> _Message:
            document = answers.model_configuration(app, scope, request.name, request.version or None)
            return ParseDict({"config": document}, pb.ConfigurationResponse())

        async def statistics(request: _Message, scope: Any, _context: _Context) -> _Message:
            which = request.name or None, request.version or None
            return ParseDict(answers.model_statistics(app, scope, self._statistics, *which), pb.Statistics())

        async def index(request: _Message, scope: Any, _context: _Context) -> _Message:
            return ParseDict({"models": answers.repository_index(app, scope, ready=request.ready)}, pb.Index())

        async def load(request: _Message, scope: Any, _context: _Context) -> _Message:
            await answers.change_model(app, scope, request.model_name, request.parameters, load=True)
            return pb.Empty()

        async def unload(request: _Message, scope: Any, _context: _Context) -> _Message:
            await answers.change_model(app, scope, request.model_name, request.parameters, load=False)
            return pb.Empty()

        # Each has the path over REST that the gate has a rule for.
        models, repository = "/v2/models/{}", "/v2/repository/models/{}"
        methods: dict[str, tuple[_Answer, Callable[[bytes], Any], str]] = {
            "ServerLive": (live, partial(read_small, pb.Empty), f"{_HEALTH}live"),
            "ServerReady": (ready, partial(read_small, pb.Empty), f"{_HEALTH}ready"),
            "ModelReady": (model_ready, partial(read_small, pb.Which), models),
            "ServerMetadata": (server, partial(read_small, pb.Empty), "/v2"),
            "ModelMetadata": (model, partial(read_small, pb.Which), models),
            "ModelInfer": (self._infer, read_message, models),
            "ModelConfig": (configuration, partial(read_small, pb.Which), models),
            "ModelStatistics": (statistics, partial(read_small, pb.Which), models),
            "RepositoryIndex": (index, partial(read_small, pb.IndexRequest), "/v2/repository/index"),
            "RepositoryModelLoad": (load, partial(read_small, pb.Change), repository),
            "RepositoryModelUnload": (unload, partial(read_small, pb.Change), repository),
        }
        # To the client the calls are unary. As streams their messages are read and parsed here, after the key was seen,
        # and not by gRPC on the event loop.
        offered = {
            name: grpc.stream_unary_rpc_method_handler(partial(self._call, name, answer, parse, path))
            for name, (answer, parse, path) in methods.items()
        }
        return {**dict.fromkeys(_NOT_OFFERED, grpc.stream_stream_rpc_method_handler(_not_offered)), **offered}

    async def _call(
        self, method: str, answer: _Answer, parse: Callable[[bytes], Any], path: str, _: Any, context: _Context
    ) -> bytes:
        """Answers a call, with a line in the log and counts in the metrics as for HTTP."""
        started, status = time.perf_counter(), 200
        scope = self._scope(context)
        public = path.startswith(_HEALTH)
        try:
            key = None if public else authorise_key(self._ring, scope, "POST", path.format(""))
            content = await self._read(context)
            with self._app.budget.hold(len(content)):
                request = await self._app.threads.run_sized(len(content), parse, content)
                if not public:
                    name = getattr(request, "model_name", "") or getattr(request, "name", "")
                    check_model(key, self._unknown, scope, path.format(name or "stats"))
                return _serialise(await answer(request, scope, context))
        except (Abandoned, asyncio.CancelledError):
            status = 499
            scope["quartet.facts"]["client"] = "gone"
            raise asyncio.CancelledError from None
        except QuartetError as error:
            if method == "ModelReady" and isinstance(error, UnknownModel):
                return _serialise(pb.Ready())  # as Triton answers; its client takes an error for a failed call
            status = int(error.status)
            return self._refuse(error, scope, context)
        except Exception:
            status = 500
            logger.exception("request %s failed", scope["quartet.id"])
            return self._refuse(INTERNAL, scope, context)
        finally:
            self._app.observers.publish(
                RequestEnded(
                    scope["quartet.id"], "POST", f"/{_SERVICE}/{method}", f"/{_SERVICE}/{method}",
                    scope["quartet.facts"], status, time.perf_counter() - started, time.time(), scope["quartet.trace"],
                )
            )  # fmt: skip

    async def _read(self, context: _Context) -> bytes:
        """The message of a call.

        Raises:
            DeadlineExceeded: it does not arrive in time, or slowly while others wait.
        """
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._app.settings.timeout) as deadline, self._turn():
                watch: asyncio.TimerHandle

                def hurry() -> None:
                    nonlocal watch
                    if self._waiting:
                        deadline.reschedule(loop.time())
                    else:
                        watch = loop.call_later(_SLOW_SECONDS, hurry)

                watch = loop.call_later(_SLOW_SECONDS, hurry)
                try:
                    content = await context.read()
                finally:
                    watch.cancel()
        except TimeoutError:
            raise DeadlineExceeded("The message did not arrive in time.") from None
        if not isinstance(content, bytes):
            raise InvalidRequest("The call ended without a message.")
        return content

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        """A turn to read a message."""
        self._waiting += 1
        try:
            await self._reading.acquire()
        finally:
            self._waiting -= 1
        try:
            yield
        finally:
            self._reading.release()

    def _scope(self, context: _Context) -> dict[str, Any]:
        """What the gate and the queues look at of a request, as ASGI has it."""
        metadata = context.invocation_metadata() or ()
        headers = [(_bytes(key), _bytes(value)) for key, value in metadata]
        by_name = dict(reversed(headers))
        begin = self._app.begin_trace
        trace = begin("POST", by_name, time.monotonic()) if begin else None
        kind, _, address = context.peer().partition(":")
        client = (address.rpartition(":")[0].strip("[]").replace("%5B", "").replace("%5D", ""), address)
        return {
            "app": self._app,
            "headers": headers,
            # No page can send gRPC, so the name under which the server was reached tells nothing.
            "quartet.headers": {**by_name, b"host": b"localhost"},
            "quartet.facts": {},
            "quartet.trace": trace,
            "quartet.id": f"{self._prefix}-{next(self._numbers):x}",
            "client": client if kind.startswith("ipv") else ("127.0.0.1", address),
        }

    async def _infer(self, request: _Message, scope: dict[str, Any], context: _Context) -> _Message:
        app = self._app
        owner, weight = owner_of(scope)
        left = context.time_remaining()
        async with CallScope(
            app.repository,
            owner=owner,
            weight=weight,
            models=models_of(scope),
            timeout=app.settings.timeout,
            trace=scope["quartet.trace"],
            observers=app.observers,
        ) as call:
            context.add_done_callback(lambda _: call.cancel())
            if left is not None:
                call.expire_after(max(0.0, left))
            version = call.lease(request.model_name, request.model_version or None)
            scope["quartet.facts"] |= {"model": version.label, "variant": version.variant}
            version.batcher.admission.expect(call, at_once=True)
            size = sum(map(len, request.raw)) + request.fields.ByteSize()
            asked = await app.threads.run_sized(size, read_request, request, version.manifest, app.settings.max_items)
            with app.budget.hold(max(0, asked.size - size)):
                scope["quartet.facts"]["items"] = asked.count
                charge(scope, asked.count)
                rows = await answers.run(call, version, asked)
            return await app.threads.run_sized(
                answers.size_of(rows), write_response, asked, version.manifest, version.version, rows
            )

    @staticmethod
    def _refuse(error: QuartetError, scope: dict[str, Any], context: _Context) -> bytes:
        """Sets the status of a call; returns its response, which is not sent.

        `context.abort` would raise an error that gRPC keeps in a reference cycle, and with it the message.
        """
        scope["quartet.facts"]["problem"] = error.slug
        if isinstance(error, UnknownModel):
            error.show(partial(visible, scope))
        if error.retry_after is not None:
            context.set_trailing_metadata((("grpc-retry-pushback-ms", str(int(error.retry_after * 1000))),))
        context.set_code(_CODES.get(int(error.status), grpc.StatusCode.INTERNAL))
        context.set_details(error.detail)
        return b""


async def _not_offered(_: Any, context: _Context) -> None:
    why = "The server has neither streams, nor shared memory, nor settings of traces and logs: use ModelInfer."
    await context.abort(grpc.StatusCode.UNIMPLEMENTED, why)


def _credentials(certificate: Certificate) -> grpc.ServerCredentials:
    """Credentials that follow the renewal of a certificate."""
    known = certificate.pem

    def configuration() -> Any:
        return grpc.ssl_server_certificate_configuration([certificate.pem])

    def renewed() -> Any:
        """Called by gRPC on its threads for each handshake; None if nothing has changed."""
        nonlocal known
        if known is certificate.pem:
            return None
        known = certificate.pem
        return configuration()

    return grpc.dynamic_ssl_server_credentials(configuration(), renewed)


def _serialise(message: Any) -> bytes:
    content: bytes = message if isinstance(message, bytes) else message.SerializeToString()
    return content


def _bytes(value: str | bytes) -> bytes:
    return value.encode("latin-1", "replace") if isinstance(value, str) else value
