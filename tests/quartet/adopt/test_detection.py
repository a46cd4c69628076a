"""`quartet adopt --task detection`, asked as clients ask it."""

import ast
import json
from pathlib import Path

import httpx
import numpy as np
import onnx
import pytest

from quartet.adopt.command_line import main
from quartet.adopt.yolo import Head
from service.settings import Settings
from tests.pictures import encode
from tests.tiny_yolo import HEIGHT, LABELS, METADATA, WIDTH, scene, yolo

ADOPTED: dict[str, tuple[Head, int | str]] = {
    "v8": ("yolov8", "batch"),
    "v8-fixed": ("yolov8", 1),
    "v8-of-four": ("yolov8", 4),
    "v5": ("yolov5", 1),
    "suppressed": ("end2end", "batch"),
}


def adopt(folder: Path, name: str, model: onnx.ModelProto, *options: str) -> int:
    """The exit code of `quartet adopt`, which publishes into `folder/models`."""
    file = folder / f"{name}.onnx"
    onnx.save(model, file)
    return main([str(file), "--name", name, "--models", str(folder / "models"), "--max-batch", "4", *options])


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("adopted")
    pictures = folder / "pictures"
    pictures.mkdir()
    for channel in range(3):
        (pictures / f"{channel}.png").write_bytes(encode(scene((1, 1 + channel, channel), (2, 6, 2 - channel))))
    for name, (head, batch) in ADOPTED.items():
        more = ("--samples", str(pictures), "--confidence", "0.5", "--iou", "0.4")
        assert adopt(folder, name, yolo(head, batch=batch), "--task", "detection", *more) == 0
    assert adopt(folder, "plain", yolo()) == 0
    return folder / "models"


@pytest.fixture
def settings(models: Path) -> Settings:
    return Settings(models=models, device="cpu", threads=1)


@pytest.mark.parametrize("name", ADOPTED)
async def test_a_picture_has_the_boxes_of_the_network(client: httpx.AsyncClient, name: str):
    picture = encode(scene((1, 2, 0), (3, 6, 2)))
    response = await client.post(f"/v1/detect?model={name}", content=picture, headers={"Content-Type": "image/png"})
    answer = response.json()
    assert answer["threshold"] == {"confidence": 0.5, "precision": None, "recall": None}
    (result,) = answer["results"]
    assert sorted((box["label"], box["score"]) for box in result["boxes"]) == [("blue", 1), ("red", 1)]
    boxes = {box["label"]: [box[side] for side in ("x_min", "y_min", "x_max", "y_max")] for box in result["boxes"]}
    assert boxes["red"] == [12, 4, 28, 20]
    # Beyond the picture's edge it is cut off.
    assert boxes["blue"] == [44, 20, 60, 32]


async def test_neighbours_of_a_label_are_one_object_and_those_of_different_labels_are_two(client: httpx.AsyncClient):
    # Boxes of neighbouring cells share a third of their union; half a cell of green has half the score.
    pixels = scene((1, 2, 0), (1, 3, 2))
    picture = encode(pixels)
    headers = {"Content-Type": "image/png"}
    response = await client.post("/v1/detect?model=v8", content=picture, headers=headers)
    assert response.json()["results"][0]["counts"] == {"red": 1, "blue": 1}


async def test_images_are_scaled_and_padded_as_ultralytics_does_it(client: httpx.AsyncClient):
    # Twice as large, and square: the content is 32 x 32, with 16 columns of padding on both sides.
    large = np.zeros((64, 64, 3), np.uint8)
    large[16:32, 32:48] = (255, 0, 0)
    response = await client.post(
        "/v1/detect?model=v8&confidence=0.9", content=encode(large), headers={"Content-Type": "image/png"}
    )
    (box,) = response.json()["results"][0]["boxes"]
    assert [box[side] for side in ("x_min", "y_min", "x_max", "y_max")] == [24, 8, 56, 40]


async def test_figures_that_were_never_measured_are_refused(client: httpx.AsyncClient):
    response = await client.post(
        "/v1/detect?model=v8&precision=0.9", content=encode(scene()), headers={"Content-Type": "image/png"}
    )
    assert response.status_code == 422
    assert "never evaluated" in response.json()["detail"]


@pytest.mark.parametrize("name", ["v8", "plain"])
async def test_the_configuration_has_the_exporters_metadata(client: httpx.AsyncClient, name: str):
    configuration = (await client.get(f"/v2/models/{name}/config")).json()
    assert ast.literal_eval(configuration["parameters"]["metadata"]["string_value"]) == METADATA


def test_the_manifest_states_what_was_done(models: Path):
    manifest = json.loads((models / "v8-fixed" / "1" / "manifest.json").read_text())
    assert manifest["labels"] == list(LABELS)
    assert manifest["image"] == {"height": HEIGHT, "width": WIDTH, "channels": 3, "antialias": False}
    assert manifest["confidence"] == 0.5
    assert manifest["max_batch"] == 4
    assert manifest["suppression"]["iou"] == 0.4
    changes = manifest["adopted"]["changes"]
    assert any(line.startswith("output output0: yolov8 [batch, 4 + labels, boxes]") for line in changes)
    assert "the file fixes the first axis at 1, which is open now" in manifest["adopted"]["batching"]
    assert manifest["adopted"]["samples"] == "given"


def test_an_export_that_suppresses_keeps_its_boxes(tmp_path: Path):
    assert adopt(tmp_path, "own", yolo("end2end"), "--task", "detection") == 0
    manifest = json.loads((tmp_path / "models" / "own" / "1" / "manifest.json").read_text())
    assert manifest["suppression"]["iou"] == 1
    assert manifest["adopted"]["samples"] == "examples"


def open_sides() -> onnx.ModelProto:
    """An export whose height and width are open, without a note on them."""
    model = yolo(imgsz="")
    for axis, name in zip(model.graph.input[0].type.tensor_type.shape.dim[2:], ("height", "width"), strict=True):
        axis.dim_param = name
    return model


def test_open_sides_are_those_that_are_given(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert adopt(tmp_path, "open", open_sides(), "--task", "detection", "--size", "32x64") == 0
    assert "images: scaled whole into 64 x 32" in capsys.readouterr().out


def without_names() -> onnx.ModelProto:
    model = yolo()
    del model.metadata_props[:]
    return model


def normalised() -> onnx.ModelProto:
    """An export whose boxes are shares of the picture."""
    model = yolo()
    (grid,) = (tensor for tensor in model.graph.initializer if tensor.name == "grid")
    grid.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(grid) / np.float32(64), "grid"))
    return model


def grey() -> onnx.ModelProto:
    value = onnx.helper.make_tensor_value_info("images", onnx.TensorProto.FLOAT, ["batch", 1, 32, 64])
    model = yolo()
    model.graph.input[0].CopyFrom(value)
    del model.graph.output[0].type.tensor_type.shape.dim[:]
    return model


@pytest.mark.parametrize(
    ("model", "options", "says"),
    [
        (yolo(task="segment"), (), "for the task 'segment'"),
        (without_names(), (), "give --labels FILE"),
        (yolo(names="['one', 'two']"), (), "is none of yolov8 [batch, 6, boxes]"),
        (open_sides(), (), "give --size"),
        (open_sides(), ("--size", "30"), "give the --size that it was trained with"),
        (yolo(), ("--size", "64"), "the graph fixes its input at 32x64"),
        (normalised(), (), "shares of the picture"),
        (
            yolo(),
            ("--head", "yolov5"),
            "its shape [batch, 7, 32] is none of yolov5 [batch, 8, boxes], yolov5 [batch, boxes, 8]",
        ),
        (yolo(), ("--output", "nothing"), "it has output0"),
        (yolo(), ("--samples", "/dev/null"), "cannot be read as npz"),
    ],
)
def test_what_cannot_be_adopted_is_refused_in_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], model: onnx.ModelProto, options: tuple[str, ...], says: str
):
    assert adopt(tmp_path, "wrong", model, "--task", "detection", *options) == 1
    assert says in capsys.readouterr().err
    assert not [*(tmp_path / "models").glob("*/*")]
