"""A program that a type checker accepts: what the methods of the client take and return."""

import io
from pathlib import Path
from typing import Any, assert_type

import numpy as np
import numpy.typing as npt
import PIL.Image

from quartet import (
    AsyncClient,
    Client,
    DecodedImage,
    Detections,
    Encoding,
    GeneratedImage,
    Generation,
    Prediction,
    QuartetError,
    Results,
    RowPrediction,
    Stream,
    TextPrediction,
)


def one(
    client: Client,
    pixels: npt.NDArray[np.uint8],
    array: npt.NDArray[Any],
    pillow: PIL.Image.Image,
    path: Path,
    file: io.BytesIO,
) -> None:
    assert_type(client.predict(pixels), Prediction)
    assert_type(client.predict(array, top_k=1, timeout=3), Prediction)
    assert_type(client.predict(np.zeros((3, 3), np.uint8)), Prediction)
    assert_type(client.predict(pillow), Prediction)
    assert_type(client.predict("a.jpg"), Prediction)
    assert_type(client.predict(path), Prediction)
    assert_type(client.predict(b"x"), Prediction)
    assert_type(client.predict(file), Prediction)
    with path.open("rb") as opened:
        assert_type(client.detect(opened), Detections)
    assert_type(client.detect(pixels), Detections)
    assert_type(client.encode(pixels), Encoding)


def many(client: Client, pixels: npt.NDArray[np.uint8], paths: list[Path]) -> None:
    assert_type(client.predict(paths), Results[Prediction])
    assert_type(client.predict([pixels, pixels]), Results[Prediction])
    assert_type(client.predict(list(pixels)), Results[Prediction])
    assert_type(client.predict(Path().glob("*")), Results[Prediction])
    assert_type(client.predict(["a", Path("b"), b""], errors="return"), Results[Prediction | QuartetError])
    assert_type(client.predict({"a": "b"}.values()), Results[Prediction])
    assert_type(client.predict(map(str, paths), stream=True), Stream[Prediction])
    assert_type(client.predict(paths, stream=True, errors="return"), Stream[Prediction | QuartetError])
    for answer in client.predict(paths, stream=True):
        assert_type(answer, Prediction)


def rest(client: Client, rows: list[dict[str, float]]) -> None:
    assert_type(client.generate(3, label=7), Generation)
    assert_type(client.generate(3, stream=True), Stream[GeneratedImage])
    assert_type(client.classify_text("x"), TextPrediction)
    assert_type(client.classify_text(["x"], stream=True), Stream[TextPrediction])
    assert_type(client.predict_tabular({"a": 1}), RowPrediction)
    assert_type(client.predict_tabular(rows), Results[RowPrediction])
    assert_type(client.decode([1.0]), DecodedImage)
    assert_type(client.decode(np.zeros(3)), DecodedImage)
    assert_type(client.decode([[1.0]]), Results[DecodedImage])
    assert_type(client.decode([np.zeros(3)]), Results[DecodedImage])
    assert_type(client.decode(client.encode(["a"])), Results[DecodedImage])


async def asynchronous(client: AsyncClient, paths: list[Path]) -> None:
    assert_type(await client.predict(paths[0]), Prediction)
    async for answer in await client.predict(paths, stream=True):
        assert_type(answer, Prediction)
