"""POST /v1/<operation>: an endpoint for each operation of each task.

The order of a request is the same for all: the model is resolved, room for it is made sure of, and only then the body
is read; after that the operation prepares, runs and answers.
"""

import asyncio
from collections.abc import Collection
from typing import Any

import pydantic_core

from service.access.caller import key_of, visible
from service.api.v1.bodies import reader_of
from service.errors import BodyTooLarge, InferenceFailed, UnknownModel
from service.inference.leases import Version
from service.inference.scope import CallScope
from service.stack.endpoint import Endpoint
from service.stack.exchange import Answer, Exchange, StreamedAnswer
from service.tasks.base import Operation, Options, Picture, Results, Stream, Task
from service.tasks.call import Call
from service.tasks.registry import Registry

_PNG = "image/png"
# A client that sends it, whatever its value, does not want its inputs to be kept.
_OPT_OUT = b"quartet-no-capture"
# Results that are written before the event loop gets to serve others.
_FEW = 64


def operation_endpoints(registry: Registry) -> tuple[Endpoint, ...]:
    """An endpoint for each operation of the registered tasks."""
    return tuple(
        Endpoint(f"/v1/{operation.name}", operation.options, _endpoint(task, operation))
        for task, operation in registry.operations()
    )


def default_model(task: Task, operation: Operation, versions: Collection[Version]) -> str | None:
    """The model of the operation's usual name, or else the only one of its task; None where a request must name one.

    Args:
        task: of the operation.
        operation: that is asked for.
        versions: all that may be asked.
    """
    names = {version.name for version in versions if isinstance(version.manifest, task.manifest)}
    if operation.default_model in names:
        return operation.default_model
    return names.pop() if len(names) == 1 else None


def _endpoint(task: Task, operation: Operation) -> Any:
    read = reader_of(operation.reads)
    accepts_png = _PNG in operation.media_types

    async def endpoint(exchange: Exchange, query: Options) -> Answer | StreamedAnswer:
        app, scope = exchange.app, exchange.call
        version = _lease(exchange, task, operation, query)
        version.check_task(task.name)
        version.batcher.admission.expect(scope, at_once=exchange.small)
        inputs = await read(exchange, version.manifest, app.threads)
        scope.progressed()  # the time in which the body arrived was the client's
        prefers_picture = accepts_png and exchange.header(b"accept").lower().startswith(b"image/png")
        call: Call[Any, Any] = Call(
            version, query, inputs, scope, app.threads, app.settings.max_pixels, prefers_picture, scope.leases[0].alias
        )
        items = exchange.facts["items"] = operation.items(inputs, query)
        if items > app.settings.max_items:
            at_most = f"at most {app.settings.max_items} are accepted"
            raise BodyTooLarge(f"The request asks for {items} items; {at_most}: send several requests.")
        exchange.charge(items)
        answer = await operation.run(call)
        if isinstance(answer, Results):
            if version.name in app.captures.models:
                _note(exchange, call, operation, answer)
            document = {**call.signature, **answer.common, "results": answer.items}
            few = len(answer.items) <= _FEW
            return Answer(_to_json(document) if few else await _write(document), timing=_timing(scope))
        if isinstance(answer, Picture):
            return Answer(answer.data, _PNG.encode(), _timing(scope))
        return _stream(answer)

    return endpoint


def _note(exchange: Exchange, call: Call[Any, Any], operation: Operation, answer: Results) -> None:
    """Hands inputs and answers to those who keep them, if the model's policy, the key and the client permit it."""
    key, scope = key_of(exchange.scope), exchange.call
    scope.asked = exchange.app.captures.ask(
        call.version,
        operation,
        exchange.scope["quartet.id"],
        key.name if key else None,
        call.inputs,
        answer,
        shadowed=scope.leases[0].shadow is not None,
        keep=(key is None or key.capture) and not exchange.header(_OPT_OUT),
    )


def _lease(exchange: Exchange, task: Task, operation: Operation, query: Options) -> Version:
    """The model that the query names, or the one that answers by default."""
    try:
        return exchange.lease(query.model, query.version)
    except UnknownModel:
        versions = [each for each in exchange.app.repository.versions if visible(exchange.scope, each.name)]
        only = default_model(task, operation, versions)
        if "model" in query.model_fields_set or only is None:
            raise
        return exchange.lease(only, query.version)


async def _write(document: dict[str, Any]) -> bytes:
    """A document that ends with many results, written in slices."""
    results = document["results"]
    parts = [_to_json({**document, "results": results[:_FEW]})[:-2]]
    for start in range(_FEW, len(results), _FEW):
        await asyncio.sleep(0)
        parts.append(_to_json(results[start : start + _FEW])[1:-1])
    return b",".join(parts) + b"]}"


def _to_json(answer: Any) -> bytes:
    """An answer in JSON.

    Raises:
        InferenceFailed: a number in it is infinite or NaN, which JSON cannot express.
    """
    written = pydantic_core.to_json(answer)
    # A text may hold these words too.
    suspect = b"NaN" in written or b"Infinity" in written
    if suspect and written != pydantic_core.to_json(answer, inf_nan_mode="null"):
        raise InferenceFailed("The model gave a number that is infinite or NaN: the input may be too extreme for it.")
    return written


def _stream(answer: Stream) -> StreamedAnswer:
    headers = [(f"x-{name}".encode(), b"%d" % value) for name, value in answer.facts.items()]
    if answer.filename:
        headers.append((b"content-disposition", f'attachment; filename="{answer.filename}"'.encode()))
    return StreamedAnswer(answer.chunks, answer.media_type.encode(), tuple(headers))


def _timing(call: CallScope) -> bytes:
    """The value of a Server-Timing header (W3C), in milliseconds."""
    return b"decode;dur=%.3f, queue;dur=%.3f, inference;dur=%.3f" % (
        1000 * sum(call.decode_times),
        1000 * call.queue_seconds,
        1000 * call.inference_seconds,
    )
