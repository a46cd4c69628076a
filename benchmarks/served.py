"""Checks that the served models are as good as their manifests state, on the original test items over HTTP.

python -m benchmarks.served --classifier ../data/cifar10 --detector ../data/bccd
python -m benchmarks.served --topics ../data/reuters-r52 --digits ../data/mnist
"""

import argparse
import asyncio
import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import numpy.typing as npt
from PIL import Image
from rich.console import Console

from benchmarks.results import Recorder, add_json_option
from benchmarks.servers import service


def main() -> None:
    """Prints each metric as measured over HTTP and as the manifest states it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.served", description=__doc__)
    parser.add_argument("--models", type=Path, default=Path("models"))
    parser.add_argument("--classifier", metavar="DATA", help="the data set of the classifiers: a folder or hub id")
    parser.add_argument("--detector", metavar="DATA", help="the data set of the detector")
    parser.add_argument("--topics", metavar="DATA", help="the data set of the text classifier")
    parser.add_argument("--digits", metavar="DATA", help="the data set of the autoencoder")
    parser.add_argument("--images", type=int, default=1000, help="maximum number of test images, evenly spread")
    add_json_option(parser)
    arguments = parser.parse_args()
    console = Recorder()
    with service(arguments.models) as running:
        url = f"http://127.0.0.1:{running.port}"
        served = httpx.get(f"{url}/v1/models").json()["models"]
        for model in served:
            if arguments.classifier and model["task"] == "classification":
                answers, labels = _image_answers(url, model["name"], arguments.classifier, arguments.images)
                _print_labelled(console, model, answers, labels)
            if arguments.detector and model["task"] == "detection":
                map_50, mean = _average_precision(url, model["name"], arguments.detector)
                stated = model["metrics"]
                console.print(
                    f"{model['name']}: mAP {map_50:.4f} at 0.5, {mean:.4f} at 0.5 to 0.95 over HTTP; stated "
                    f"{stated['map_50']:.4f} and {stated['map']:.4f}"
                )
            if arguments.topics and model["task"] == "text":
                answers, labels = _text_answers(url, model["name"], arguments.topics)
                _print_labelled(console, model, answers, labels)
            if arguments.digits and model["task"] == "autoencoder":
                noisy, restored, count = _denoising(url, model["name"], arguments.digits, arguments.images)
                console.print(
                    f"{model['name']}: mean squared error {noisy:.4f} of {count} noisy test images, {restored:.4f} "
                    "restored over HTTP"
                )
    console.write(arguments.json, "benchmarks.served")


def _print_labelled(
    console: Console, model: dict[str, Any], answers: list[dict[str, Any]], labels: npt.NDArray[np.int64]
) -> None:
    """Accuracy, macro F1 and expected calibration error of answers that hold the probability of every label."""
    from sklearn.metrics import confusion_matrix

    from training.export.calibration import expected_calibration_error
    from training.export.figures import macro_f1

    probabilities = np.zeros((len(answers), len(answers[0]["results"][0]["labels"])), np.float32)
    for row, answer in zip(probabilities, answers, strict=True):
        for label in answer["results"][0]["labels"]:
            row[label["index"]] = label["probability"]
    found = probabilities.argmax(1)
    accuracy = float((found == labels).mean())
    console.print(
        f"{model['name']}: accuracy {accuracy:.4f} of {len(labels)} test items over HTTP (standard error "
        f"{(accuracy * (1 - accuracy) / len(labels)) ** 0.5:.4f}), stated {model['metrics']['accuracy']:.4f}; macro F1 "
        f"{macro_f1(confusion_matrix(labels, found, labels=range(probabilities.shape[1]))):.4f}; "
        f"expected calibration error {expected_calibration_error(probabilities, labels):.4f}"
    )


def _image_answers(url: str, model: str, source: str, most: int) -> tuple[list[dict[str, Any]], npt.NDArray[np.int64]]:
    import datasets

    part = datasets.load_dataset(source)["test"]
    image = next(name for name, kind in part.features.items() if isinstance(kind, datasets.Image))
    label = next(name for name, kind in part.features.items() if isinstance(kind, datasets.ClassLabel))
    part = part.cast_column(image, datasets.Image(decode=False))
    part = part.select(range(0, len(part), max(1, -(-len(part) // most))))
    contents = [item[image]["bytes"] for item in part]
    return asyncio.run(_ask(f"{url}/v1/predict?top_k=1000&model={model}", contents)), np.array(part[label])


def _text_answers(url: str, model: str, source: str) -> tuple[list[dict[str, Any]], npt.NDArray[np.int64]]:
    from training.text.data import load_texts

    test = load_texts(source).test
    contents = [text.encode() for text in test.texts]
    answers = asyncio.run(_ask(f"{url}/v1/classify-text?top_k=1000&model={model}", contents, media_type="text/plain"))
    return answers, np.asarray(test.labels)


def _denoising(url: str, model: str, source: str, most: int) -> tuple[float, float, int]:
    """Mean squared errors, pixels from 0 to 1, of noisy test images and of what is made of them; how many there are."""
    from training.autoencoder.evaluation import add_noise, flat
    from training.data.images import load_images

    test = load_images(source).test
    clean = test.images[:: max(1, -(-len(test) // most))]
    noisy = add_noise(clean)
    contents = []
    for pixels in noisy:
        buffer = io.BytesIO()
        Image.fromarray(pixels.squeeze()).save(buffer, "PNG")
        contents.append(buffer.getvalue())
    answers = asyncio.run(_ask(f"{url}/v1/reconstruct?invert=never&model={model}", contents))
    files = [base64.b64decode(answer["results"][0]["png"]) for answer in answers]
    restored = np.stack([np.asarray(Image.open(io.BytesIO(file))).reshape(clean.shape[1:]) for file in files])
    before, after = (float(np.square(flat(one) - flat(clean)).mean()) for one in (noisy, restored))
    return before, after, len(clean)


def _average_precision(url: str, model: str, source: str) -> tuple[float, float]:
    from training.detection.data import load_detection
    from training.detection.evaluation import Detections, average_precision
    from training.detection.formats import read

    data = load_detection(source, bad="drop")
    contents = [image.read() for image in read(source).splits["test"]]
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
