"""The task `text`: classify-text."""

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, Field
from tokenizers import Tokenizer

from service.errors import BodyTooLarge, DeadlineExceeded, InvalidRequest
from service.faults import Faults, pointer
from service.tasks.base import AnswerBase, Documents, Format, Operation, Records, Results, Sample, Task, model_option
from service.tasks.call import Call
from service.tasks.documents import OCTETS, a_file, object_schema, parse_json
from service.tasks.labels import Labelled, LabelOptions, label_bounds, labelling
from service.tasks.pauses import Pauses, map_with_pauses
from service.tasks.text.agreement import AGREEMENT
from service.tasks.text.manifest import TOKENIZER, TextManifest
from service.tasks.text.reading import PAD, UNKNOWN, Reading, influence, read_text, without_each
from service.tasks.text.statistics import STATISTICS
from service.tasks.truth import LABEL

# Characters that are tokenised on the event loop, in up to two milliseconds; longer texts go to a thread. Outside of
# ASCII a character may be normalised to twenty.
_INLINE_ASCII, _INLINE_CHARACTERS = 4_000, 500
_MOST_CHARACTERS = 4_000_000
# An explanation runs the model once for every word.
_MOST_EXPLAINED = 8
_EXAMPLE = "Crude oil prices rose on Monday after OPEC ministers agreed to cut production."
# Python's definition of white space, which is wider than JSON Schema's.
_VISIBLE = r"[^\t-\r\x1c-\x20\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]"
_TEXT = {"type": "string", "minLength": 1, "maxLength": _MOST_CHARACTERS, "pattern": _VISIBLE}


class ClassifyTextOptions(LabelOptions):
    """The options of `classify-text`."""

    model: str = model_option("topics")
    explain: bool = Field(
        False, description="adds `words`: how much each word moves the likeliest label (at most 8 texts a request)"
    )


class WordInfluence(BaseModel):
    """A word, and what the likeliest label's log-odds lose without it."""

    word: str = Field(examples=["crude"], description="as it stands in the text")
    start: int = Field(examples=[0], description="index of its first character")
    weight: float = Field(
        examples=[1.24], description="log-odds with the word less log-odds without it: 0.69 is odds twice as good"
    )
    known: bool = Field(description="whether the vocabulary has it; a word that it lacks has no influence")


class TextPrediction(Labelled):
    """The answer for one text."""

    tokens: int = Field(examples=[12], description="words that were read")
    unknown: int = Field(examples=[1], description="of these, words that the model has never seen")
    cut_off: int = Field(examples=[0], description="words at the end that are beyond what the model reads")
    words: list[WordInfluence] | None = Field(None, description="only with `explain`, in the order of the text")


class ClassifyTextAnswer(AnswerBase):
    """The answers for all texts of a request, in the order sent."""

    results: list[TextPrediction]


TextCall = Call[TextManifest, ClassifyTextOptions]


async def classify_text(call: TextCall) -> Results:
    """Classifies one or many texts by topic, in the order sent.

    Send JSON with `texts` or `text`, or one text as `text/plain`. Text is read as the training read its own: capitals
    do not matter, nor do digits and punctuation to a model of words. The answer says how much of each text was read and
    understood.
    """
    options, texts = call.options, call.inputs
    if options.explain and len(texts) > _MOST_EXPLAINED:
        raise InvalidRequest(
            f"explain=true takes at most {_MOST_EXPLAINED} texts; the request holds {len(texts)}.", parameter="explain"
        )
    labelled = labelling(call.manifest, options)
    readings = await _read(call, texts)
    rows = await call.infer([reading.ids for reading in readings])

    def describe(reading: Reading, outputs: tuple[Any, ...]) -> dict[str, Any]:
        result = labelled(outputs, tokens=reading.tokens, unknown=reading.unknown, cut_off=reading.cut_off)
        if not reading.tokens:
            # The graph needs a token, but its answer says nothing about a text without words.
            result |= {name: [] for name in ("labels", "label_set") if name in result}
        return result

    results = await map_with_pauses(call.scope, describe, readings, rows)
    if options.explain:
        await _explain(call, results, texts, readings, rows)
    return Results(results)


async def _read(call: TextCall, texts: Sequence[str]) -> list[Reading]:
    readings = []
    length, pauses = call.manifest.max_length, Pauses(call.scope)
    for text in texts:
        if len(text) > (_INLINE_ASCII if text.isascii() else _INLINE_CHARACTERS):
            reading = await call.in_background(read_text, call.companion, text, length)
        else:
            reading = read_text(call.companion, text, length)
        if pauses.due:
            await pauses.take()
        readings.append(reading)
    return readings


async def _explain(
    call: TextCall, results: list[dict[str, Any]], texts: Sequence[str], readings: list[Reading], rows: list[Any]
) -> None:
    """Adds `words` to the results; ends as soon as the deadline, which is one for all, is out of reach."""
    call.scope.fixed_deadline = True
    call.scope.run_in_background()
    left, explained = sum(reading.tokens for reading in readings), 0
    seconds = call.seconds_for(left)
    if seconds > call.scope.timeout:
        raise InvalidRequest(
            f"Explaining {left} words would take about {seconds:.0f} s, longer than the {call.scope.timeout:g} s that "
            "a request may take: send fewer or shorter texts."
        )
    began = time.monotonic()
    for result, text, reading, (probabilities, *_) in zip(results, texts, readings, rows, strict=True):
        if not reading.tokens:
            result["words"] = []
            continue
        without = await call.infer(without_each(reading.ids))
        result["words"] = influence(text, reading, probabilities, np.stack([row for row, *_ in without]))
        left, explained = left - reading.tokens, explained + reading.tokens
        # The first estimate may have been too low.
        seconds = left * (time.monotonic() - began) / explained
        if seconds > call.scope.deadline - time.monotonic():
            raise DeadlineExceeded(
                f"Explaining {left} more words would take about {seconds:.0f} s, longer than this request may take: "
                "send fewer or shorter texts."
            )


def _parse_plain(body: bytes, manifest: TextManifest, limit: int) -> list[str]:  # noqa: ARG001
    try:
        return _checked([body.decode()], limit, lambda _: pointer())
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"The text is not valid UTF-8 ({error.reason} at byte {error.start}).") from None


def _parse_json(body: bytes, manifest: TextManifest, limit: int) -> list[str]:  # noqa: ARG001
    match parse_json(body, strings=limit + 8, values=limit + 8):
        case {"texts": [_, *_] as texts, **more} if not more:
            return _checked(texts, limit, partial(pointer, "texts"))
        case {"text": text, **more} if not more:
            return _checked([text], limit, lambda _: pointer("text"))
    raise InvalidRequest('The JSON must be {"texts": ["…", …]} or {"text": "…"} and nothing else.')


def _json_schema(_manifest: TextManifest | None, limit: int) -> dict[str, Any]:
    texts = {"type": "array", "minItems": 1, "maxItems": limit, "items": _TEXT}
    # Either of the two; generated clients have a single class for that.
    either = {**object_schema(texts=texts, text=_TEXT), "required": [], "minProperties": 1, "maxProperties": 1}
    return {"title": "ClassifyTextRequest", "description": "Texts, or one text.", **either}


def _checked(texts: list[Any], limit: int, pointer_to: Callable[[int], str]) -> list[str]:
    if len(texts) > limit:
        raise BodyTooLarge(
            f"The request holds {len(texts)} texts; at most {limit} are accepted: send several requests."
        )
    faults = Faults()
    for index, text in enumerate(texts):
        if not isinstance(text, str):
            faults.add("A text must be a string.", pointer=pointer_to(index), index=index)
        elif not text.strip():
            faults.add("The text is empty.", pointer=pointer_to(index), index=index)
        elif len(text) > _MOST_CHARACTERS:
            raise BodyTooLarge(
                f"The text has {len(text)} characters; at most {_MOST_CHARACTERS} are accepted: send its beginning.",
                index=index,
            )
    faults.check()
    return texts


def read_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer, without truncation."""
    tokenizer = Tokenizer.from_file(str(folder / TOKENIZER))
    tokenizer.no_truncation()
    return tokenizer


def text_samples(inputs: Mapping[str, Any], manifest: TextManifest, companion: Tokenizer) -> list[Sample]:
    """The texts of the golden file, reduced to known words, the shortest first."""
    (ids,) = (inputs[spec.name] for spec in manifest.inputs)
    texts = companion.decode_batch([row[(row != PAD) & (row != UNKNOWN)].tolist() for row in ids])
    order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
    return [Sample("text/plain", texts[index].encode(), index) for index in order if texts[index].strip()]


TEXT = Task(
    name="text",
    manifest=TextManifest,
    operations=(
        Operation(
            name="classify-text",
            summary="Classify texts",
            run=classify_text,
            options=ClassifyTextOptions,
            reads=Documents(
                {
                    "application/json": Format(_json_schema, _parse_json, lambda _manifest: {"texts": [_EXAMPLE]}),
                    "text/plain": Format(lambda _manifest, _limit: _TEXT, _parse_plain, lambda _manifest: _EXAMPLE),
                    OCTETS: Format(
                        lambda _manifest, _limit: a_file("a text in UTF-8"), _parse_plain, lambda _manifest: _EXAMPLE
                    ),
                },
                records=Records(
                    lambda _manifest: ("text",),
                    lambda rows, _manifest: _checked(
                        [row["text"] for row in rows], len(rows), partial(pointer, "texts")
                    ),
                    write=lambda text, _manifest: {"text": text},
                ),
            ),
            answer=ClassifyTextAnswer,
            bounds=label_bounds,
        ),
    ),
    read_companion=read_tokenizer,
    samples=text_samples,
    agreement=AGREEMENT,
    truth=lambda _manifest: LABEL,
    statistics=STATISTICS,
)
