"""The OpenAPI document, with examples and bounds of the served models, and its page at /docs."""

import asyncio
import base64
import hashlib
import inspect
import re
from collections.abc import Collection, Sequence
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
from service.stack.problems import REQUEST_ID, Problem, responses
from service.tasks.base import Operation, Task
from service.tasks.registry import Registry

_STATIC = "/docs/static"
# Documents that are kept, for keys of different models.
_MOST_DOCUMENTS = 32
_FAILURES = (404, 413, 414, 415, 422, 429, 500, 503, 504)
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
            title=app.title, version=app.version, summary=app.summary, description=app.description, routes=app.routes
        )
        answers: dict[type[BaseModel], Literal["serialization"]] = {
            operation.answer: "serialization" for _, operation in registry.operations()
        }
        answers[Problem] = "serialization"
        _, definitions = models_json_schema(list(answers.items()), ref_template="#/components/schemas/{model}")
        document["components"]["schemas"] |= definitions["$defs"]
        return document

    def describe(models: Collection[str] | None = None) -> dict[str, Any]:
        document = constant()
        every = app.repository.versions if app.ready else []
        versions = [each for each in every if models is None or each.name in models]
        operations = {
            f"/v1/{operation.name}": {"post": _describe(task, operation, versions, app.settings.max_items)}
            for task, operation in registry.operations()
        }
        document = {**document, "paths": {**operations, **document["paths"]}}
        return with_keys(document) if keyed else document

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
            return pydantic_core.to_json({**document, "servers": [{"url": root}]} if root else document)

        async with turn:
            key = app.state.changes, models, root
            if key not in written:
                if len(written) >= _MOST_DOCUMENTS:
                    written.clear()
                written[key] = await app.threads.run(write)
            return Response(written[key], media_type="application/json")


def with_keys(document: dict[str, Any]) -> dict[str, Any]:
    """The document of a service that needs a key, in which Swagger UI has a button for it."""
    schemes = {
        "Bearer": {"type": "http", "scheme": "bearer", "description": "`Authorization: Bearer KEY`"},
        "X-API-Key": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "`X-API-Key: KEY`"},
    }
    refusals = {str(status): response for status, response in responses(401, 403).items()}
    paths = {
        path: {
            method: {**described, "security": []}
            if is_public(method.upper(), path)
            else {**described, "responses": {**described["responses"], **refusals}}
            for method, described in item.items()
        }
        for path, item in document["paths"].items()
    }
    components = {**document["components"], "securitySchemes": schemes}
    return {**document, "components": components, "security": [{name: []} for name in schemes], "paths": paths}


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


def _describe(task: Task, operation: Operation, versions: Sequence[Version], limit: int) -> dict[str, Any]:
    """The OpenAPI operation: what the served models accept, with examples that work."""
    served = [version for version in versions if isinstance(version.manifest, task.manifest)]
    usual = default_model(task, operation, served)
    default = next((version.manifest for version in served if version.name == usual), None)
    others = [version.manifest for version in served if version.manifest is not default]
    name = operation.name.replace("-", "_")
    return {
        "tags": ["inference"],
        "summary": operation.summary,
        "description": inspect.getdoc(operation.run),
        "operationId": f"{name}_v1_{name}_post",
        "parameters": _describe_options(operation, served, usual),
        "requestBody": describe_body(operation.reads, [default, *others], limit),
        "responses": {"200": _describe_answer(operation)}
        | {str(status): response for status, response in responses(*_FAILURES).items()},
    }


def _describe_options(operation: Operation, served: Sequence[Version], usual: str | None) -> list[dict[str, Any]]:
    parameters: dict[str, dict[str, Any]] = {
        name: {
            "name": name,
            "in": "query",
            "required": False,
            "schema": _without_null(described),
            "description": described.get("description", ""),
        }
        for name, described in operation.options.model_json_schema()["properties"].items()
    }
    if served:
        model = parameters["model"]
        names = [name for version in served for name in (version.name, version.label, f"{version.name}/{LATEST}")]
        model["schema"]["enum"] = list(dict.fromkeys(names))  # several versions of a model share a name
        if usual is None:
            del model["schema"]["default"]
            model["required"] = True
        else:
            model["schema"]["default"] = usual
        numbers = [name for each in served for name in (each.version, *each.aliases)]
        parameters["version"]["schema"]["enum"] = [*dict.fromkeys(numbers), LATEST]
    if served and operation.bounds:
        bounds = [operation.bounds(version.manifest) for version in served]
        for name in bounds[0]:
            schemas = [each[name] for each in bounds]
            parameters[name]["schema"] = any_of(schemas)
            if any(schema["type"] == "array" for schema in schemas):
                parameters[name] |= {"style": "form", "explode": False}
    return list(parameters.values())


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema of an option that may be absent, since a query cannot express null."""
    rest = {key: value for key, value in schema.items() if key != "anyOf" and (key, value) != ("default", None)}
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
