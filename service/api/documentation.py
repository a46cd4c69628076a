"""The OpenAPI document, with examples and bounds of the served models, and its page at /docs."""

import asyncio
import base64
import hashlib
import inspect
import re
from collections.abc import Collection, Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any, Literal

import pydantic_core
from fastapi import Request, Response
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.openapi.utils import get_openapi
from fastapi.responses import HTMLResponse
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema
from starlette.staticfiles import StaticFiles

from service.access.caller import models_of
from service.access.gate import is_public
from service.api.headers import security_headers
from service.api.v1.bodies import any_of, describe_body
from service.api.v1.operations import default_model
from service.inference.leases import Version
from service.policy.policy import LATEST
from service.stack.application import Application
from service.stack.problems import MEDIA_TYPE, REQUEST_ID, Problem, responses
from service.tasks.base import Operation, Task
from service.tasks.registry import Registry

_STATIC = "/docs/static"
# Documents that are kept, for keys of different models.
_MOST_DOCUMENTS = 32
_FAILURES = (404, 413, 415, 422, 500, 503, 504)
# Of every route that is not public: the gate and the limits answer them.
_EVERYWHERE = (401, 403, 414, 429)
_SCHEMES = {
    "Bearer": {"type": "http", "scheme": "bearer", "description": "`Authorization: Bearer KEY`"},
    "X-API-Key": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "`X-API-Key: KEY`"},
}
_TAGS = {
    "inference": "What models answer. An operation for each kind of model; `model` selects one.",
    "models": "Which models are served, how good they are, and samples to try them with.",
    "serving policy": "Which versions of a model answer. Changes need a key with the scope `admin`.",
    "feedback": "Which answers were right, and how good those of each version were.",
    "operations": "Probes, metrics, and the last hour in figures.",
}
_TIMING = {
    "Server-Timing": {
        "description": "milliseconds of decode, queue and inference",
        "required": True,
        "schema": {"type": "string", "example": "decode;dur=0.3, queue;dur=1.2, inference;dur=4.9"},
    }
}


def install(app: Application, registry: Registry, *, keyed: bool) -> None:
    """Adds the page, and the document with the operations.

    Args:
        app: gets the routes.
        registry: the tasks whose operations are described.
        keyed: whether the service needs a key.
    """
    document_path = "/openapi.json"
    # The package contains Swagger UI, which FastAPI's own page would load from the internet.
    app.mount(_STATIC, StaticFiles(directory=str(files("fastapi_offline") / "static")), name="static")

    @app.get("/docs", include_in_schema=False)
    async def docs(request: Request) -> HTMLResponse:
        root = request.scope.get("root_path", "")
        page = get_swagger_ui_html(
            openapi_url=f"{root}{document_path}",
            title=f"{app.title} - Swagger UI",
            swagger_js_url=f"{root}{_STATIC}/swagger-ui-bundle.js",
            swagger_css_url=f"{root}{_STATIC}/swagger-ui.css",
            swagger_favicon_url=f"{root}{_STATIC}/favicon.png",
        )
        page.headers.update(_security_headers(bytes(page.body).decode()))
        return page

    @cache
    def constant() -> dict[str, Any]:
        """The document without the operations, which depend on the models."""
        document = get_openapi(
            title=app.title,
            version=app.version,
            summary=app.summary,
            description=app.description,
            routes=app.routes,
            tags=[{"name": name, "description": description} for name, description in _TAGS.items()],
            license_info=app.license_info,
        )
        answers: dict[type[BaseModel], Literal["serialization"]] = {
            operation.answer: "serialization" for _, operation in registry.operations()
        }
        answers[Problem] = "serialization"
        _, definitions = models_json_schema(list(answers.items()), ref_template="#/components/schemas/{model}")
        document["components"]["schemas"] |= definitions["$defs"]
        document["components"]["securitySchemes"] = _SCHEMES
        return document

    def describe(models: Collection[str] | None = None) -> dict[str, Any]:
        document = constant()
        every = app.repository.versions if app.ready else []
        versions = [each for each in every if models is None or each.name in models]
        operations: dict[str, Any] = {}
        schemas: dict[str, Any] = {}
        for task, operation in registry.operations():
            described, more = _describe(task, operation, versions, app.settings.max_items)
            operations[f"/v1/{operation.name}"] = {"post": described}
            schemas |= more
        components = document["components"]
        return _finished(
            {
                **document,
                "paths": {**operations, **document["paths"]},
                "components": {**components, "schemas": components["schemas"] | schemas},
            },
            keyed=keyed,
        )

    def openapi() -> dict[str, Any]:
        changes, document = app.state.changes, app.openapi_schema
        if document is None:
            document = describe()
            if changes == app.state.changes:
                app.openapi_schema = document
        return document

    app.state.changes = 0
    app.openapi = openapi  # type: ignore[method-assign]  # documented by FastAPI

    # In place of FastAPI's own route: the names and examples depend on the key. Writing takes tens of milliseconds.
    written: dict[Any, bytes] = {}
    turn = asyncio.Lock()

    @app.get(document_path, include_in_schema=False)
    async def openapi_document(request: Request) -> Response:
        models = models_of(request.scope)
        root = request.scope.get("root_path", "").rstrip("/")

        def write() -> bytes:
            document = openapi() if models is None else describe(models)
            return pydantic_core.to_json({**document, "servers": [{"url": root or "/"}]})

        async with turn:
            key = app.state.changes, models, root
            if key not in written:
                if len(written) >= _MOST_DOCUMENTS:
                    written.clear()
                written[key] = await app.threads.run(write)
            return Response(written[key], media_type="application/json")


def _finished(document: dict[str, Any], *, keyed: bool) -> dict[str, Any]:
    """The document with what all operations share: how to send a key, and the problems, each described once.

    Where the service needs no key, one may be sent, so that clients made from the document can be used with both kinds
    of service.
    """
    shared: dict[str, Any] = {}

    def once(response: dict[str, Any], status: str) -> dict[str, Any]:
        if list(response.get("content", ())) != [MEDIA_TYPE]:
            return response
        shared[name := f"Problem{status}"] = response
        return {"$ref": f"#/components/responses/{name}"}

    def finished(path: str, method: str, described: dict[str, Any]) -> dict[str, Any]:
        public = is_public(method.upper(), path)
        answers = described["responses"] | ({} if public else _problems(*_EVERYWHERE))
        answers = {status: once(answers[status], status) for status in sorted(answers)}
        return {**described, "responses": answers, **({"security": []} if public else {})}

    paths = {
        path: {method: finished(path, method, described) for method, described in item.items()}
        for path, item in document["paths"].items()
    }
    security: list[dict[str, list[str]]] = [{name: []} for name in _SCHEMES]
    return {
        **document,
        "servers": [{"url": "/"}],
        "security": security if keyed else [{}, *security],
        "paths": paths,
        "components": {**document["components"], "responses": dict(sorted(shared.items()))},
    }


def _problems(*statuses: int) -> dict[str, Any]:
    return {str(status): response for status, response in responses(*statuses).items()}


def _security_headers(page: str) -> dict[str, str]:
    """Headers that allow only the server's own scripts."""
    hashes = [
        f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
        for script in re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    ]
    return security_headers(
        {
            "default-src": "'self'",
            "script-src": " ".join(["'self'", *hashes]),
            # Swagger UI's icons, and pictures in answers.
            "img-src": "'self' data: blob:",
            "object-src": "'none'",
        }
    )


def prepare(app: Application) -> None:
    """Generates the constant part of the document ahead of time; it takes a quarter of a second."""
    app.openapi()
    forget(app)


def forget(app: Application) -> None:
    """Makes the next request generate the document again, since the models have changed."""
    app.state.changes += 1
    app.openapi_schema = None


def _describe(
    task: Task, operation: Operation, versions: Sequence[Version], limit: int
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The OpenAPI operation, with what the served models accept and examples that work; and its own schemas."""
    served = [version for version in versions if isinstance(version.manifest, task.manifest)]
    usual = default_model(task, operation, served)
    default = next((version.manifest for version in served if version.name == usual), None)
    others = [version.manifest for version in served if version.manifest is not default]
    body, schemas = describe_body(operation.reads, [default, *others], limit)
    described = {
        "tags": ["inference"],
        "summary": operation.summary,
        "description": inspect.getdoc(operation.run),
        "operationId": operation.name.replace("-", "_"),
        "parameters": _describe_options(operation, served, usual, limit),
        "requestBody": body,
        "responses": {"200": _describe_answer(operation), **_problems(*_FAILURES)},
    }
    return described, schemas


def _describe_options(
    operation: Operation, served: Sequence[Version], usual: str | None, limit: int
) -> list[dict[str, Any]]:
    """The parameters. Names of models and labels are examples: clients made from the document outlive them."""
    schemas = {
        name: _without_null(described)
        for name, described in operation.options.model_json_schema()["properties"].items()
    }
    descriptions = {name: schema.pop("description", "") for name, schema in schemas.items()}
    if served:
        names = [name for version in served for name in (version.name, version.label, f"{version.name}/{LATEST}")]
        schemas["model"]["examples"] = list(dict.fromkeys(names))  # several versions of a model share a name
        schemas["model"].pop("default")
        if usual is not None:
            schemas["model"]["default"] = usual
        numbers = [name for each in served for name in (each.version, *each.aliases)]
        schemas["version"]["examples"] = [*dict.fromkeys(numbers), LATEST]
    bounds = [operation.bounds(version.manifest, limit) for version in served] if operation.bounds else []
    for name in bounds[0] if bounds else ():
        schemas[name] |= _widest([each[name] for each in bounds])
    return [
        {
            "name": name,
            "in": "query",
            "required": name == "model" and bool(served) and usual is None,
            "schema": schema,
            "description": descriptions[name],
        }
        for name, schema in schemas.items()
    ]


def _widest(bounds: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What any of some models accept."""
    highest = [each["maximum"] for each in bounds if "maximum" in each]
    examples = dict.fromkeys(example for each in bounds for example in each.get("examples", ()))
    return {**({"maximum": max(highest)} if highest else {}), **({"examples": list(examples)} if examples else {})}


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema of an option that may be absent, since a query cannot express null."""
    rest = {
        key: value
        for key, value in schema.items()
        if key not in ("anyOf", "title") and (key, value) != ("default", None)
    }
    types = [each for each in schema.get("anyOf", ()) if each != {"type": "null"}]
    return {**rest, **any_of(types)} if types else rest


def _describe_answer(operation: Operation) -> dict[str, Any]:
    document = {"application/json": {"schema": {"$ref": f"#/components/schemas/{operation.answer.__name__}"}}}
    binary = {"schema": {"type": "string", "format": "binary"}}
    others: dict[str, Any] = dict.fromkeys(operation.media_types, binary)
    if operation.facts is None:
        headers: dict[str, Any] = _TIMING
        content = document | others
    else:
        headers = {
            f"X-{name.title()}": {"description": description, "required": True, "schema": {"type": "integer"}}
            for name, description in operation.facts.items()
        }
        # Swagger UI selects the first. A stream is a document only for clients that ask for one.
        content = others | document
    return {"description": "Successful Response", "headers": {**REQUEST_ID, **headers}, "content": content}
