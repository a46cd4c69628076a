"""The API's own page, which needs no internet, and its OpenAPI document, whose examples work with what is served."""

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from copy import deepcopy
from functools import cache
from importlib.resources import files
from typing import Any

from fastapi import Request
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse
from starlette.staticfiles import StaticFiles

from service.api.v1.bodies import any_of, describe_body
from service.api.v1.default import default_model
from service.inference.repository import Version
from service.inference.versions import LATEST
from service.stack.application import Application
from service.tasks.registry import Registry

_STATIC = "/docs/static"


def install(app: Application, registry: Registry) -> None:
    """Adds the page, and makes the document follow what is served; `forget` has it made anew."""
    describe = app.openapi
    # The package brings Swagger UI's files, which the page would fetch from elsewhere otherwise.
    app.mount(_STATIC, StaticFiles(directory=str(files("fastapi_offline") / "static")), name="static")

    @app.get("/docs", include_in_schema=False)
    async def docs(request: Request) -> HTMLResponse:
        root = request.scope.get("root_path", "")
        page = get_swagger_ui_html(
            openapi_url=f"{root}{app.openapi_url}",
            title=f"{app.title} - Swagger UI",
            swagger_js_url=f"{root}{_STATIC}/swagger-ui-bundle.js",
            swagger_css_url=f"{root}{_STATIC}/swagger-ui.css",
            swagger_favicon_url=f"{root}{_STATIC}/favicon.png",
        )
        page.headers.update(_shields(bytes(page.body).decode()))
        return page

    @cache
    def describe_once() -> dict[str, Any]:
        document = describe()
        forget(app)
        return document

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = deepcopy(describe_once())
            _follow(document, registry, app.repository.versions if app.ready else [], app.settings.max_items)
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's own way to change the document


def _shields(page: str) -> dict[str, str]:
    """Headers with which a browser runs the server's own scripts alone, and puts the page into no other."""
    hashes = [
        f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
        for script in re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    ]
    policy = {
        "default-src": "'self'",
        "script-src": " ".join(["'self'", *hashes]),
        # Swagger UI's icons, and pictures that were answered.
        "img-src": "'self' data: blob:",
        "object-src": "'none'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    return {
        "content-security-policy": "; ".join(f"{name} {sources}" for name, sources in policy.items()),
        "referrer-policy": "no-referrer",
        "x-frame-options": "DENY",
    }


def prepare(app: Application) -> None:
    """Makes the part of the document that no model changes, which takes a quarter of a second, ahead of time."""
    app.openapi()
    forget(app)


def forget(app: Application) -> None:
    """The models have changed: the next document is made anew."""
    app.openapi_schema = None


def _follow(document: dict[str, Any], registry: Registry, versions: Sequence[Version], limit: int) -> None:
    """States what the models that are served accept, with examples that work."""
    for task, operation in registry.operations():
        served = [version for version in versions if isinstance(version.manifest, task.manifest)]
        described = document["paths"][f"/v1/{operation.name}"]["post"]
        usual = default_model(task, operation, served)
        default = next((version.manifest for version in served if version.name == usual), None)
        others = [v.manifest for v in served if v.manifest is not default]
        described["requestBody"] = describe_body(operation.reads, [default, *others], limit)
        if operation.facts is not None:
            # The page shows the first; a stream is a document only for who asks for one.
            answers = described["responses"]["200"]["content"]
            answers["application/json"] = answers.pop("application/json")
        parameters = {parameter["name"]: parameter for parameter in described["parameters"]}
        for parameter in parameters.values():
            parameter["schema"] = _without_null(parameter["schema"])
        if served:
            _name_models(parameters["model"], served, usual)
            if operation.bounds:
                _bound(parameters, [operation.bounds(version.manifest) for version in served])


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema of an option that may be absent, which is how null is written in a query."""
    if "anyOf" not in schema:
        return schema
    others = [each for each in schema["anyOf"] if each != {"type": "null"}]
    rest = {key: value for key, value in schema.items() if key != "anyOf"}
    return {**rest, **any_of(others)}


def _name_models(parameter: dict[str, Any], served: Sequence[Version], usual: str | None) -> None:
    schema = parameter["schema"]
    names = [name for version in served for name in (version.name, version.label, f"{version.name}/{LATEST}")]
    schema["enum"] = list(dict.fromkeys(names))  # several versions of a model share a name
    if usual is None:
        del schema["default"]
        parameter["required"] = True
    else:
        schema["default"] = usual


def _bound(parameters: Mapping[str, dict[str, Any]], bounds: Sequence[Mapping[str, Any]]) -> None:
    for name in bounds[0]:
        schemas = [each[name] for each in bounds]
        parameters[name]["schema"] = any_of(schemas)
        if any(schema["type"] == "array" for schema in schemas):
            parameters[name] |= {"style": "form", "explode": False}
