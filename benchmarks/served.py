"""Checks that the served models are as good as their manifests state, on the original test items over HTTP.

python -m benchmarks.served --classifier ../data/cifar10 --detector ../data/bccd --topics ../data/reuters-r52
"""

import argparse
import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from rich.console import Console

from benchmarks.servers import service


def main() -> None:
    """Prints each metric as measured over HTTP and as the manifest states it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.served", description=__doc__)
    parser.add_argument("--models", type=Path, default=Path("models"))
    parser.add_argument("--classifier", metavar="DATA", help="the data set of the classifiers: a folder or hub id")
    parser.add_argument("--detector", metavar="DATA", help="the data set of the detector")
    parser.add_argument("--topics", metavar="DATA", help="the data set of the text classifier")
    parser.add_argument("--images", type=int, default=1000, help="maximum number of test images, evenly spread")
    arguments = parser.parse_args()
    console = Console()
    with service(arguments.models) as running:
        url = f"http://127.0.0.1:{running.port}"
        served = httpx.get(f"{url}/v1/models").json()["models"]
        for model in served:
            if arguments.classifier and model["task"] == "classification":
                accuracy, count = _accuracy(url, model["name"], arguments.classifier, arguments.images)
                error = (accuracy * (1 - accuracy) / count) ** 0.5
                stated = model["metrics"]["accuracy"]
                console.print(
                    f"{model['name']}: accuracy {accuracy:.4f} on {count} test images over HTTP (standard error "
                    f"{error:.4f}); stated {stated:.4f}"
                )
            if arguments.detector and model["task"] == "detection":
                map_50, mean = _average_precision(url, model["name"], arguments.detector)
                stated = model["metrics"]
                console.print(
                    f"{model['name']}: mAP {map_50:.4f} at 0.5, {mean:.4f} at 0.5 to 0.95 over HTTP; stated "
                    f"{stated['map_50']:.4f} and {stated['map']:.4f}"
                )
            if arguments.topics and model["task"] == "text":
                accuracy, count = _text_accuracy(url, model["name"], arguments.topics)
                stated = model["metrics"]["accuracy"]
                console.print(
                    f"{model['name']}: accuracy {accuracy:.4f} on {count} test texts over HTTP; stated {stated:.4f}"
                )


def _accuracy(url: str, model: str, source: str, most: int) -> tuple[float, int]:
    import datasets

    part = datasets.load_dataset(source)["test"]
    image = next(name for name, kind in part.features.items() if isinstance(kind, datasets.Image))
    label = next(name for name, kind in part.features.items() if isinstance(kind, datasets.ClassLabel))
    part = part.cast_column(image, datasets.Image(decode=False))
    part = part.select(range(0, len(part), max(1, -(-len(part) // most))))
    answers = asyncio.run(_ask(f"{url}/v1/predict?top_k=1&model={model}", [item[image]["bytes"] for item in part]))
    found = np.array([answer["results"][0]["labels"][0]["index"] for answer in answers])
    return float((found == np.array(part[label])).mean()), len(part)


def _text_accuracy(url: str, model: str, source: str) -> tuple[float, int]:
    from training.text.data import load_texts

    test = load_texts(source).test
    contents = [text.encode() for text in test.texts]
    answers = asyncio.run(_ask(f"{url}/v1/classify-text?top_k=1&model={model}", contents, media_type="text/plain"))
    found = np.array([answer["results"][0]["labels"][0]["index"] for answer in answers])
    return float((found == test.labels).mean()), len(test)


def _average_precision(url: str, model: str, source: str) -> tuple[float, float]:
    from training.detection.data import load_detection
    from training.detection.evaluation import Detections, average_precision
    from training.detection.formats import read

    data = load_detection(source, bad="drop")
    contents = [
        image.image if isinstance(image.image, bytes) else image.image.read_bytes()
        for image in read(source).splits["test"]
    ]
    answers = asyncio.run(_ask(f"{url}/v1/detect?confidence=0&model={model}", contents))
    found = []
    for answer in answers:
        boxes = answer["results"][0]["boxes"]
        corners = [[box[name] for name in ("x_min", "y_min", "x_max", "y_max")] for box in boxes]
        found.append(
            Detections(
                np.array(corners, np.float32).reshape(-1, 4),
                np.array([box["score"] for box in boxes], np.float32),
                np.array([box["index"] for box in boxes], np.int64),
            )
        )
    result = average_precision(found, data.test, data.classes)
    return result.map_50, result.map


async def _ask(
    url: str, contents: Sequence[bytes], at_a_time: int = 16, media_type: str = "application/octet-stream"
) -> list[dict[str, Any]]:
    """The answers to requests with one item each, in order."""
    gate = asyncio.Semaphore(at_a_time)
    headers = {"content-type": media_type}

    async with httpx.AsyncClient(timeout=60, trust_env=False) as client:

        async def one(content: bytes) -> dict[str, Any]:
            async with gate:
                response = await client.post(url, content=content, headers=headers)
            response.raise_for_status()
            answer: dict[str, Any] = response.json()
            return answer

        return list(await asyncio.gather(*map(one, contents)))


if __name__ == "__main__":
    main()
