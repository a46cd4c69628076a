"""A task from outside the package: colours, written as in CSS, to their names, by the graph of `tests.tiny`."""

from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, Field

from service.errors import InvalidRequest
from service.inference.cards import ManifestBase
from service.tasks.base import Documents, Format, Operation, Options, Results, Task
from service.tasks.call import Call
from service.tasks.documents import parse_json


class ColourManifest(ManifestBase):
    task: Literal["colours"] = "colours"
    side: int


class ColourOptions(Options):
    model: str = Field("namer", description="which model answers")


class ColourAnswer(BaseModel):
    model: str
    version: str
    device: str
    results: list[dict[str, str]]


async def name_colours(call: Call[ColourManifest, ColourOptions]) -> Results:
    """Says what colours are called."""
    side = call.manifest.side
    rows = await call.infer([np.full((side, side, 3), colour, np.uint8) for colour in call.inputs])
    return Results([{"name": call.manifest.labels[probabilities.argmax()]} for (probabilities,) in rows])


def parse(body: bytes, manifest: ColourManifest, limit: int) -> list[bytes]:
    try:
        return [list(bytes.fromhex(text.removeprefix("#"))) for text in parse_json(body, strings=limit, values=limit)][
            :limit
        ]
    except (AttributeError, TypeError, ValueError):
        raise InvalidRequest('The JSON must be a list of colours, such as ["#00ff00"].') from None


def example(manifest: ColourManifest | None) -> Any:
    return ["#14e61e"] * (manifest.side if manifest else 1)


def schema(manifest: ColourManifest | None, limit: int) -> dict[str, Any]:
    return {"type": "array", "maxItems": limit, "items": {"type": "string"}}


COLOURS = Task(
    name="colours",
    manifest=ColourManifest,
    operations=(
        Operation(
            name="name-colours",
            summary="Name colours",
            run=name_colours,
            options=ColourOptions,
            reads=Documents({"application/json": Format(schema, parse, example)}),
            answer=ColourAnswer,
        ),
    ),
)
