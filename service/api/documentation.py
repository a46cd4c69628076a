"""The API's own page, which needs no internet, and its OpenAPI document, whose examples work with what is served."""

from collections.abc import Mapping
from importlib.resources import files
from typing import Any

from fastapi import Request
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse
from starlette.staticfiles import StaticFiles

from service.inference.repository import Version
from service.stack.application import Application
from service.tasks.base import Documents
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
        return get_swagger_ui_html(
            openapi_url=f"{root}{app.openapi_url}",
            title=f"{app.title} - Swagger UI",
            swagger_js_url=f"{root}{_STATIC}/swagger-ui-bundle.js",
            swagger_css_url=f"{root}{_STATIC}/swagger-ui.css",
            swagger_favicon_url=f"{root}{_STATIC}/favicon.png",
        )

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = describe()
            _add_examples(document, registry, app.repository.models if app.ready else {})
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's own way to change the document


def forget(app: Application) -> None:
    """The models have changed: the next document is made anew."""
    app.openapi_schema = None


def _add_examples(document: dict[str, Any], registry: Registry, models: Mapping[str, Version]) -> None:
    for task, operation in registry.operations():
        if not isinstance(operation.reads, Documents):
            continue
        model = models.get(operation.default_model)
        manifest = model.manifest if model is not None and isinstance(model.manifest, task.manifest) else None
        body = document["paths"][f"/v1/{operation.name}"]["post"]["requestBody"]
        # A copy: what the routes declare stays as it is.
        body["content"] = {
            media_type: {**body["content"][media_type], "example": described.example(manifest)}
            for media_type, described in operation.reads.formats.items()
        }
