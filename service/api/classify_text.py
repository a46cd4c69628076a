"""POST /v1/classify-text: texts to topics with calibrated probabilities."""

import asyncio
from typing import Annotated, Any

import numpy as np
import pydantic_core
from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from service.api.exchange import BREATH, Answer, Exchange
from service.api.labels import Label, LabelQuery
from service.api.problems import RESPONSES
from service.api.thin import ThinRoute
from service.errors import BodyTooLarge, InvalidRequest, UnsupportedMediaType
from service.inference.manifests.classification import TextManifest
from service.inference.repository import Model
from service.tasks.classification import conformal_point, label_set, top
from service.tasks.text import Reading, influence, read_text, without_each

router = APIRouter(route_class=ThinRoute, tags=["inference"])

# Characters that are tokenised on the event loop before it gets to serve others; a longer text goes to a thread.
_INLINE_CHARACTERS = 20_000
# A text that is longer would keep that thread for seconds, and the model reads its beginning alone.
_MOST_CHARACTERS = 4_000_000
# An explanation runs the model once for every word.
_MOST_EXPLAINED = 8
_EXAMPLE = "Crude oil prices rose on Monday after OPEC ministers agreed to cut production."


class ClassifyTextQuery(LabelQuery):
    """The options of /v1/classify-text."""

    model: str = Field("topics", description="which model answers; `GET /v1/models` lists them")
    explain: bool = Field(
        False, description="adds `words`: how much each word moves the likeliest label (at most 8 texts a request)"
    )


class WordInfluence(BaseModel):
    """A word, and what the likeliest label's log-odds lose without it."""

    word: str = Field(examples=["crude"], description="as it stands in the text")
    start: int = Field(examples=[0], description="of its first character")
    weight: float = Field(
        examples=[1.24], description="log-odds with the word less log-odds without it: 0.69 is odds twice as good"
    )


class TextPrediction(BaseModel):
    """The answer for one text."""

    labels: list[Label] = Field(description="the likeliest first")
    tokens: int = Field(examples=[12], description="words that were read")
    unknown: int = Field(examples=[1], description="of these, words that the model has never seen")
    cut_off: int = Field(examples=[0], description="words at the end that are beyond what the model reads")
    label_set: list[str] | None = Field(
        None, examples=[["crude"]], description="only with `coverage`: labels that together cover the truth"
    )
    words: list[WordInfluence] | None = Field(None, description="only with `explain`, in the order of the text")


class ClassifyTextAnswer(BaseModel):
    """The answers for all texts of a request, in the order sent."""

    model: str = Field(examples=["topics"])
    version: str = Field(examples=["1"])
    device: str = Field(examples=["cpu"], description="where it ran: cpu or cuda")
    results: list[TextPrediction]


_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "properties": {
                        "texts": {"type": "array", "minItems": 1, "items": {"type": "string"}},
                        "text": {"type": "string", "description": "instead of `texts`, for one"},
                    },
                    "additionalProperties": False,
                },
                "example": {"texts": [_EXAMPLE]},
            },
            "text/plain": {"schema": {"type": "string"}, "example": _EXAMPLE},
        },
    }
}


@router.post(
    "/v1/classify-text",
    summary="Classify texts",
    response_model=ClassifyTextAnswer,
    response_model_exclude_none=True,
    responses=RESPONSES,
    openapi_extra=_BODY,
)
async def classify_text(exchange: Exchange, query: Annotated[ClassifyTextQuery, Query()]) -> Any:
    """Tells what one or many texts are about, in the order sent.

    Send JSON with `texts` or `text`, or one text as `text/plain`. Text is read as the training read its own: capitals,
    digits and punctuation do not matter. The answer says how much of each text was read and understood.
    """
    state = exchange.app.state
    texts = await _read_texts(exchange)
    model = state.repository.get(query.model)
    manifest = model.manifest_as(TextManifest)
    exchange.note(model, len(texts))
    if query.explain and len(texts) > _MOST_EXPLAINED:
        raise InvalidRequest(f"explain=true takes at most {_MOST_EXPLAINED} texts; the request holds {len(texts)}.")
    point = conformal_point(manifest, query.coverage) if query.coverage is not None else None
    readings, characters = [], 0
    for index, text in enumerate(texts):
        if len(text) > _INLINE_CHARACTERS:
            reading = await state.images.in_pool(read_text, model.companion, text, manifest.max_length)
        else:
            reading = read_text(model.companion, text, manifest.max_length)
            characters += len(text)
            if characters > _INLINE_CHARACTERS:
                characters = 0
                await asyncio.sleep(0)
        if not reading.tokens:
            raise InvalidRequest("The text holds no word: send some.", index=index)
        readings.append(reading)
    rows, progress = await state.images.run_prepared(exchange, model, [reading.ids for reading in readings])
    results: list[dict[str, Any]] = []
    for text, reading, (probabilities,) in zip(texts, readings, rows, strict=True):
        result: dict[str, Any] = {
            "labels": top(probabilities, manifest.labels, query.top_k),
            "tokens": reading.tokens,
            "unknown": reading.unknown,
            "cut_off": reading.cut_off,
        }
        if point is not None:
            result["label_set"] = label_set(probabilities, manifest.labels, point.threshold)
        if query.explain:
            result["words"] = await _explain(exchange, model, text, reading, probabilities)
        results.append(result)
        if len(results) % BREATH == 0:
            await asyncio.sleep(0)
    answer = {**model.signature, "results": results}
    return Answer(pydantic_core.to_json(answer), timing=progress.header())


async def _explain(exchange: Exchange, model: Model, text: str, reading: Reading, probabilities: Any) -> list[Any]:
    """The influence of every word of a text on its likeliest label."""
    variants = without_each(reading.ids)
    rows, _ = await exchange.app.state.images.run_prepared(exchange, model, variants)
    return influence(text, reading, probabilities, np.stack([row for (row,) in rows]))


async def _read_texts(exchange: Exchange) -> list[str]:
    """The texts of a request, at least one, none of them empty."""
    media_type = exchange.media_type
    body = await exchange.read()
    if media_type == "text/plain":
        try:
            texts: Any = [body.decode()]
        except UnicodeDecodeError as error:
            raise InvalidRequest(f"The text is no valid UTF-8 ({error.reason} at byte {error.start}).") from None
    elif media_type in ("application/json", ""):
        texts = _from_json(body)
    else:
        raise UnsupportedMediaType(f"Content-Type {media_type} is not read here: send application/json or text/plain.")
    limit = exchange.settings.max_items
    if len(texts) > limit:
        raise BodyTooLarge(
            f"The request holds {len(texts)} texts; at most {limit} are accepted: send several requests."
        )
    for index, text in enumerate(texts):
        if not isinstance(text, str):
            raise InvalidRequest("A text must be a string.", index=index)
        if not text.strip():
            raise InvalidRequest("The text is empty.", index=index)
        if len(text) > _MOST_CHARACTERS:
            raise BodyTooLarge(
                f"The text has {len(text)} characters; at most {_MOST_CHARACTERS} are accepted: send its beginning.",
                index=index,
            )
    found: list[str] = texts
    return found


def _from_json(body: bytes) -> list[Any]:
    try:
        document = pydantic_core.from_json(body)
    except ValueError as error:
        raise InvalidRequest(f"The body is no JSON ({error}).") from None
    if isinstance(document, dict) and set(document) == {"text"}:
        return [document["text"]]
    texts = document.get("texts") if isinstance(document, dict) and set(document) == {"texts"} else None
    if not isinstance(texts, list) or not texts:
        raise InvalidRequest('The JSON must be {"texts": ["…", …]} or {"text": "…"} and nothing else.')
    return texts
