"""A server in this process whose models keep what they are asked."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx

from service.app import create_app
from service.capture.database import FILE, Selection
from service.capture.store import Item, Store
from service.settings import Settings
from tests.pictures import encode
from tests.shadowed import until
from tests.tiny import solid

ALL = "[capture]\nmin_free_mb = 0\n[capture.random]\nshare = 1\nhourly = 10000\ndaily = 10000\n"
RED = encode(solid("red"))


@asynccontextmanager
async def serving(
    models: Path, policy: str, model: str = "classifier", **settings: Any
) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the application; the captures are in `captures` beside the models."""
    (models / model / "serving.toml").write_text(policy)
    app = create_app(
        Settings(models=models, captures=folder_of(models), device="cpu", threads=1, log_format="text", **settings)
    )
    client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost")
    client.app = app  # type: ignore[attr-defined]
    async with app.router.lifespan_context(app), client:
        yield client


def folder_of(models: Path) -> Path:
    return models.with_name("captures")


def items(models: Path, **where: Any) -> list[Item]:
    """What has been kept so far."""
    if not (folder_of(models) / FILE).exists():  # the writer makes the folder first
        return []
    with Store(folder_of(models)) as store:
        return list(store.items(Selection(**where)))


async def kept(models: Path, count: int, **where: Any) -> list[Item]:
    """The items, once there are so many."""
    await until(lambda: len(items(models, **where)) >= count)
    return items(models, **where)


async def ask(client: httpx.AsyncClient, body: Any = RED, path: str = "/v1/predict", **headers: str) -> httpx.Response:
    """Sends an image, or a document."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    if isinstance(body, bytes):
        response = await client.post(path, content=body, headers={"content-type": "image/png", **named})
    else:
        response = await client.post(path, json=body, headers=named)
    assert response.status_code == 200, response.text
    return response
