"""Captured items to a running server as tensors, over the Open Inference Protocol (/v2)."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

import httpx
import numpy as np

from quartet.captured.items import Captured
from quartet.errors import QuartetError
from quartet.http import Connection
from quartet.offline.scoring.engine import Engine, Job
from quartet.offline.scoring.sources import Item
from quartet.replay.compare import record_of
from quartet.replay.turn import Turn
from service.api.v2.tensors import Array, datatype, from_bytes, to_bytes
from service.inference.cards import ManifestBase, TensorSpec
from service.settings import Settings
from service.tasks.base import Row
from service.tasks.registry import BUILT_IN

_LENGTH = "Inference-Header-Content-Length"


class OtherTensors(QuartetError):
    """The server's model has other tensors than that of the models folder."""


class Tensors:
    """Sends items as tensors. The model of the models folder makes them, and reads the tensors that come back.

    Args:
        connection: to the server.
        engine: of the model.
        path: of the model on the server.
    """

    def __init__(self, connection: Connection, engine: Engine, path: str) -> None:
        self._connection = connection
        self._engine = engine
        self._path = path

    @classmethod
    async def open(cls, connection: Connection, model: str, operation: str, settings: Settings) -> Self:
        """Loads the model.

        Args:
            connection: to the server.
            model: `NAME` or `NAME/VERSION`.
            operation: that answered the items.
            settings: of the service, for the models.

        Raises:
            OtherTensors: the server's differs.
            NothingToServe: there is no such model in the folder.
            UnusableJob: there is no such version, or it cannot do this.
        """
        name, _, version = model.partition("/")
        path = f"v2/models/{quote(name, safe='')}" + (f"/versions/{quote(version, safe='')}" if version else "")
        engine = await Engine.open(Job(model, operation), settings, BUILT_IN)
        try:
            found = await connection.exchange("GET", path, _document)
            for part in ("inputs", "outputs"):
                here = [_described(spec) for spec in getattr(engine.manifest, part)]
                if found[part] != here:
                    where = f"{engine.version} in {settings.models}"
                    raise OtherTensors(f"{where} has the {part} {here}, but the server's has {found[part]}.")
        except BaseException:
            await engine.close()
            raise
        return cls(connection, engine, path)

    async def send(self, each: Captured, turn: Turn) -> dict[str, Any]:
        """See `quartet.replay.load.Sender`."""

        async def infer(items: Sequence[Any]) -> list[Row]:
            manifest = self._engine.manifest
            body, length = _request(items, manifest)
            await turn.start()
            response = await self._connection.exchange(
                "POST", f"{self._path}/infer", _whole, content=body, headers={_LENGTH: str(length)}
            )
            turn.end()
            return _rows(response, manifest)

        record = record_of(each)
        self._engine.choose_columns(list(record))
        return await self._engine.answer_with(Item(0, record), Path(), infer)

    async def close(self) -> None:
        """Closes the model."""
        await self._engine.close()


async def _document(response: httpx.Response) -> Any:
    return json.loads(await response.aread())


async def _whole(response: httpx.Response) -> httpx.Response:
    await response.aread()
    return response


def _described(spec: TensorSpec) -> dict[str, Any]:
    return {"name": spec.name, "datatype": datatype(spec.dtype), "shape": list(spec.shape)}


def _request(items: Sequence[Any], manifest: ManifestBase) -> tuple[bytes, int]:
    """A body with binary tensors, and the length of its JSON."""
    columns = zip(*((item if isinstance(item, tuple) else (item,)) for item in items), strict=True)
    arrays = [np.stack(column) for column in columns]
    blobs = [to_bytes(array) for array in arrays]
    inputs = [
        {**_described(spec), "shape": list(array.shape), "parameters": {"binary_data_size": len(blob)}}
        for spec, array, blob in zip(manifest.inputs, arrays, blobs, strict=True)
    ]
    head = json.dumps({"inputs": inputs, "parameters": {"binary_data_output": True}}).encode()
    return b"".join([head, *blobs]), len(head)


def _rows(response: httpx.Response, manifest: ManifestBase) -> list[Row]:
    """The rows of a response with binary tensors."""
    start = int(response.headers[_LENGTH])
    found: dict[str, Array] = {}
    types = {spec.name: spec.dtype for spec in manifest.outputs}
    for output in json.loads(response.content[:start])["outputs"]:
        end = start + output["parameters"]["binary_data_size"]
        name, shape = output["name"], tuple(output["shape"])
        found[name] = from_bytes(name, memoryview(response.content)[start:end], types[name], shape)
        start = end
    return list(zip(*(found[spec.name] for spec in manifest.outputs), strict=True))
