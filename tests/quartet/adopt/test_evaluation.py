import io
import subprocess
import sys

import httpx
import numpy as np
import onnx
import pytest

from quartet.adopt.command_line import main
from quartet.adopt.graph import open_session
from quartet.command_line import main as quartet
from service.app import create_app
from service.settings import Settings
from service.tasks.classification.manifest import ClassifierManifest
from tests.quartet.adopt.colours import LABELS, SIZE, classifier, folders, labels_file, picture
from tests.server import ROOT
from training.data.splits import split_validation
from training.export.calibration import Scaling

COUNT = 60


def arguments(folder, file, data, *options):
    labels = labels_file(folder / "labels.txt")
    return [
        "adopt", str(file), "--name", "m", "--models", str(folder / "models"), "--task", "classification",
        "--labels", str(labels), "--mean", "0.5", "--std", "0.25", "--evaluate", str(data), *options,
    ]  # fmt: skip


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    """The folder of a models folder with `m/1`, whose logits are too large, adopted with sixty pictures."""
    folder = tmp_path_factory.mktemp("evaluated")
    graph = convolution(folder / "m.onnx")
    assert main(arguments(folder, graph, folders(folder / "pictures", COUNT)), "quartet") == 0
    return folder


def convolution(path):
    """A classifier with layers, which p-values need: a 1 x 1 convolution, then a matrix."""
    random = np.random.default_rng(0)
    graph = """<ir_version: 8, opset_import: ["": 15]>
      g (float[N, 3, 16, 16] x) => (float[N, 3] y)
      { a = Conv(x, w)  b = GlobalAveragePool(a)  c = Flatten(b)  y = MatMul(c, v) }"""
    model = onnx.parser.parse_model(graph)
    mixed = random.normal(size=(8, 3)).astype(np.float32)
    for name, value in (("w", mixed.reshape(8, 3, 1, 1)), ("v", (12 * np.linalg.pinv(mixed)).T)):
        model.graph.initializer.append(onnx.numpy_helper.from_array(value.astype(np.float32), name))
    onnx.save(model, path)
    return path


def manifest_of(folder):
    return ClassifierManifest.model_validate_json((folder / "models/m/1/manifest.json").read_text())


def test_one_half_calibrates_and_the_other_measures(evaluated):
    manifest = manifest_of(evaluated)
    assert (manifest.data.train, manifest.data.validation, manifest.data.test) == (0, 30, 30)
    # Every tenth picture has another label, so a certain classifier is overconfident.
    assert 0.8 <= manifest.metrics.accuracy <= 0.97
    assert manifest.calibration.temperature > 1.5
    assert manifest.calibration.ece_after < manifest.calibration.ece_before
    assert [each.support for each in manifest.metrics.per_class] == [10, 10, 10]
    assert manifest.conformal[10].coverage == 0.9
    assert set(manifest.intervals) == {"accuracy", "macro_f1", "negative_log_likelihood", "ece_after"}
    assert manifest.familiarity.calibrated_on == 15
    assert manifest.training is None
    assert manifest.adopted.samples == "given"
    assert "opset: 18 instead of 15" in manifest.adopted.changes


def test_the_graph_answers_what_was_fitted(evaluated):
    manifest = manifest_of(evaluated)
    model = onnx.load(evaluated / "models/m/1/model.onnx")
    images = np.stack([np.asarray(picture(label, np.random.default_rng(3), (SIZE, SIZE))) for label in range(3)])
    probabilities, unfamiliar = open_session(model, "m").run({"images": images})
    logits = 12 * ((images / 255 - 0.5) / 0.25).mean((1, 2))
    np.testing.assert_allclose(probabilities, Scaling.of(manifest.calibration).probabilities(logits), atol=1e-4)
    noise = np.random.default_rng(0).integers(0, 256, images.shape, dtype=np.uint8)
    np.testing.assert_allclose(open_session(model, "m").run({"images": noise})[1], 1 / 16)  # the least that 15 give
    assert unfamiliar.mean() > 0.2


def test_the_history_says_what_each_half_was_used_for(evaluated):
    manifest = manifest_of(evaluated)
    (step,) = manifest.history
    assert step.kind == "adopt"
    assert step.command.startswith("quartet adopt m.onnx --name m")
    assert str(evaluated) not in step.command
    used = {(use.split, use.part, use.purpose): use.items for use in step.uses}
    assert used == {
        ("validation", "selection", "temperature"): 15,
        ("validation", "selection", "distances for p-values"): 15,
        ("validation", "calibration", "label sets"): 15,
        ("validation", "calibration", "p-values"): 15,
        ("test", "all", "figures"): 30,
    }


def test_golden_images_are_labelled_pictures_of_the_half_that_measures(evaluated):
    manifest = manifest_of(evaluated)
    assert manifest.golden.rows == 16
    assert set(manifest.golden.labels) == set(LABELS)
    assert manifest.golden.tolerances["unfamiliar"] >= 2 / 16


def test_the_card_is_that_of_a_training_and_says_where_the_graph_is_from(evaluated):
    text = (evaluated / "models/m/1/report/README.md").read_text()
    for heading in ("Per class", "Calibration", "Label sets", "Adoption", "Out-of-distribution detection", "History"):
        assert f"## {heading}" in text
    assert "Which data trained it is not recorded" in text
    assert "as adopted" in text
    assert "## Training" not in text
    assert "None" not in text
    assert (evaluated / "models/m/1/report/conformal.png").is_file()


async def test_it_answers_label_sets_and_typicality(evaluated):
    buffer = io.BytesIO()
    picture(2, np.random.default_rng(5)).save(buffer, "PNG")
    application = create_app(Settings(models=evaluated / "models", device="cpu", threads=1))
    async with (
        application.router.lifespan_context(application),
        httpx.AsyncClient(transport=httpx.ASGITransport(application), base_url="http://localhost") as client,
    ):
        path, headers = "/v1/predict?model=m&coverage=0.9", {"Content-Type": "image/png"}
        answer = (await client.post(path, content=buffer.getvalue(), headers=headers)).json()
        (listed,) = (await client.get("/v1/models")).json()["models"]
    (result,) = answer["results"]
    assert result["labels"][0]["label"] == "blue"
    assert "blue" in result["label_set"]
    assert 0 < result["typicality"] <= 1
    assert listed["data"] == "pictures"
    assert listed["metrics"]["accuracy"] == manifest_of(evaluated).metrics.accuracy


def test_divided_data_is_used_as_it_is_divided(tmp_path):
    for split, count in (("train", 30), ("validation", 24), ("test", 36)):
        folders(tmp_path / "pictures" / split, count)
    assert main(arguments(tmp_path, classifier(tmp_path / "m.onnx"), tmp_path / "pictures"), "quartet") == 0
    data = manifest_of(tmp_path).data
    assert (data.train, data.validation, data.test) == (0, 24, 36)


def test_a_graph_without_layers_gets_no_p_values(tmp_path, capsys):
    file = classifier(tmp_path / "m.onnx", opset=18 - 1)
    assert main(arguments(tmp_path, file, folders(tmp_path / "pictures")), "quartet") == 0
    assert "no output unfamiliar, the p-value of how typical an image is" in capsys.readouterr().out
    manifest = manifest_of(tmp_path)
    assert manifest.familiarity is None
    assert manifest.metrics is not None
    assert {use.purpose for use in manifest.history[0].uses} == {"temperature", "label sets", "figures"}


def test_a_graph_that_runs_one_image_at_a_time_is_evaluated(tmp_path):
    graph = """<ir_version: 8, opset_import: ["": 18]>
      g (float[1, 3, 16, 16] x) => (float[1, 3] y)
      <int64[1] rows = {0}, int64[2] shape = {1, 3}, float scale = {8.0}>
      { m = GlobalAveragePool(x)  s = ReduceSum<keepdims=1>(m, rows)  r = Reshape(s, shape)  y = Mul(r, scale) }"""
    onnx.save(onnx.parser.parse_model(graph), tmp_path / "m.onnx")
    assert main(arguments(tmp_path, tmp_path / "m.onnx", folders(tmp_path / "pictures")), "quartet") == 0
    assert manifest_of(tmp_path).max_batch == 1
    assert manifest_of(tmp_path).metrics.accuracy > 0.8


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (lambda root: None, "no such folder"),
        (lambda root: folders(root, 12), "6 labelled images would fit and 6 measure; give 10 for each"),
        (lambda root: folders(root, 30, ("red", "Green", "blue")), "no label 'Green': did you mean green?"),
        (lambda root: (folders(root) / "red" / "broken.png").write_bytes(b"\x89PNG"), "leave them out with --bad drop"),
    ],
)
def test_images_that_cannot_be_used_are_refused_and_nothing_is_left(prepare, message, tmp_path, capsys):
    prepare(tmp_path / "pictures")
    file = classifier(tmp_path / "m.onnx")
    assert main(arguments(tmp_path, file, tmp_path / "pictures"), "quartet") == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "models" / "m").exists()


def test_unusable_images_can_be_left_out(tmp_path, capsys):
    (folders(tmp_path / "pictures") / "red" / "broken.png").write_bytes(b"\x89PNG")
    file = classifier(tmp_path / "m.onnx")
    assert main(arguments(tmp_path, file, tmp_path / "pictures", "--bad", "drop"), "quartet") == 0
    assert "broken.png" in capsys.readouterr().out


def test_adopting_and_evaluating_need_no_torch(tmp_path):
    given = arguments(tmp_path, classifier(tmp_path / "m.onnx"), folders(tmp_path / "pictures", 30))
    program = (
        "import sys\n"
        "from quartet.command_line import main\n"
        f"assert main({given!r}) == 0\n"
        "assert not {'torch', 'torchvision', 'timm', 'accelerate', 'transformers'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert done.returncode == 0, done.stderr
    assert manifest_of(tmp_path).metrics is not None


def test_a_classifier_that_was_never_evaluated_can_be_measured_later(tmp_path, capsys):
    pytest.importorskip("torch")
    pictures = folders(tmp_path / "pictures", 30)
    given = arguments(tmp_path, classifier(tmp_path / "m.onnx"), pictures)
    at = given.index("--evaluate")
    assert main(given[:at] + given[at + 2 :], "quartet") == 0
    assert quartet(["evaluate", "m", "--data", str(pictures), "--models", str(tmp_path / "models")]) == 0
    printed = capsys.readouterr().out
    assert "the version was never evaluated" in printed
    assert "0.9 (" in printed


def test_the_halves_are_always_the_same():
    labels = np.arange(40) % 4
    first, second = split_validation(labels)
    assert np.bincount(labels[first]).tolist() == [5, 5, 5, 5]
    np.testing.assert_array_equal(first, split_validation(labels)[0])
    assert not set(first) & set(second)
