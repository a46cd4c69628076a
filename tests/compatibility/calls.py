"""Calls of every method that the clients of two neighbouring versions have, each with what it must answer.

As a program with a server's address, it runs whichever `quartet` its search path has first, in a process of its own:

PYTHONPATH=client-0.1.0.zip python tests/compatibility/calls.py http://127.0.0.1:8000
"""

import asyncio
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

import quartet

PICTURE = np.full((40, 50, 3), 90, np.uint8)
_MODELS = {
    "autoencoder", "classifier", "classifier-transfer", "decoder", "detector", "encoder", "tabular", "topics",
}  # fmt: skip


async def call_everything(client: "quartet.AsyncClient") -> list[str]:
    """Calls the models of `models/3-familiarity`.

    Returns:
        The names of the calls that were answered as they must be.

    Raises:
        AssertionError: one was not.
    """
    done = []
    for call in (
        _models, _predict, _items_that_fail, _detect, _encode, _reconstruct, _classify_text, _predict_tabular, _errors,
        _generate,
    ):  # fmt: skip
        await call(client)
        done.append(call.__name__.lstrip("_"))
    return done


async def _models(client: Any) -> None:
    assert {model.name for model in await client.models()} >= _MODELS
    model = await client.model("encoder")
    assert model.manifest["labels"] == [str(digit) for digit in range(10)]
    assert model.task == "encoder"


async def _predict(client: Any) -> None:
    answer = await client.predict(PICTURE, model="classifier", top_k=3, coverage=0.9)
    assert [each.label for each in answer.labels] == ["airplane", "automobile", "bird"]
    assert answer.label in answer.label_set
    assert (answer.served_by.model, answer.served_by.version) == ("classifier", "1")
    assert answer.served_by.timing["inference"] >= 0
    assert 0 < _typicality(answer) < 1
    answers = await client.predict([PICTURE, PICTURE], model="classifier-transfer/1")
    assert [each.served_by.model for each in answers] == ["classifier-transfer"] * 2
    assert [row["label"] for row in answers.rows()] == [answer.label] * 2


async def _items_that_fail(client: Any) -> None:
    answers = await client.predict([PICTURE, b"no picture"], model="classifier", errors="return")
    assert answers[0].label == "airplane"
    assert list(answers.errors) == [1]
    assert _is(answers.errors[1], "UndecodableImage")


async def _detect(client: Any) -> None:
    found = await client.detect(PICTURE, confidence=0.1)
    assert found.counts == {"RBC": len(found.boxes)}
    assert (found.width, found.height) == (50, 40)
    assert found.threshold.confidence == 0.1


async def _encode(client: Any) -> None:
    assert len((await client.encode(PICTURE)).latents) == 32


async def _reconstruct(client: Any) -> None:
    restored = await client.reconstruct(PICTURE)
    assert restored.error > 0
    assert restored.png.startswith(b"\x89PNG")


async def _classify_text(client: Any) -> None:
    answers = await client.classify_text(["the price of oil", ""], errors="return")
    assert answers[0].labels
    answer = await client.classify_text("the price of oil", explain=True)
    assert [each.word for each in answer.words][:1] == ["the"]


async def _predict_tabular(client: Any) -> None:
    columns = [column["name"] for column in (await client.model("tabular")).manifest["columns"]]
    answers = await client.predict_tabular([dict.fromkeys(columns, 1.0), dict.fromkeys(columns, 2.0)])
    assert {answer.labels[0].label for answer in answers} <= {"malignant", "benign"}
    assert answers[0].target == "diagnosis"


async def _errors(client: Any) -> None:
    unknown = await _error_of(client.model("none"))
    assert _is(unknown, "UnknownModel"), type(unknown)
    invalid = await _error_of(client.predict_tabular({"no such column": 1}))
    assert _is(invalid, "InvalidRequest"), type(invalid)
    assert invalid.request_id


async def _generate(client: Any) -> None:
    generation = await client.generate(3, label=7, seed=1, model="decoder")
    assert [image.label for image in generation.images] == ["7"] * 3
    (again,) = (await client.generate(1, label="7", seed=1, model="decoder")).images
    assert again.png == generation.images[0].png
    decoded = await client.decode(np.zeros((2, 32), np.float32), model="decoder")
    assert len(decoded) == 2
    with tempfile.TemporaryDirectory() as folder:
        saved = await client.generate_to(Path(folder) / "sevens.zip", 2, label="7", seed=1)
        assert saved.path.stat().st_size == saved.size


async def _error_of(call: Any) -> Any:
    try:
        await call
    except quartet.QuartetError as error:
        return error
    raise AssertionError("nothing is raised")


def _is(error: Exception, name: str) -> bool:
    """Whether an error is of a class, whose name ends with `Error` since 0.2."""
    return type(error).__name__ in (name, f"{name}Error")


def _typicality(answer: Any) -> float:
    """By its name, which was `unfamiliar` before 0.2."""
    value: float = answer.typicality if hasattr(answer, "typicality") else answer.unfamiliar
    return value


async def _main(url: str) -> None:
    async with quartet.AsyncClient(url, retry_for=0) as client:
        print(quartet.__version__, *await call_everything(client))


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1]))
