import io
from types import SimpleNamespace

import datasets
import numpy as np
import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState
from PIL import Image
from rich.console import Console

from service.inference.cards import DataCard, GoldenCard, TensorSpec, TrainingCard
from service.inference.manifest import GOLDEN, MODEL
from service.tasks.cards import ImageInput
from service.tasks.classification.manifest import ClassifierManifest
from tests.training.quick import LEARNING, SETTINGS
from training.backbones.cnn import CNN, Normalize
from training.classification.learner import Classification
from training.classification.network import ClassifierGraph
from training.data.augment import to_pixels
from training.data.images import ImageData, ImageSplit, load_images
from training.engine.fit import fit
from training.export.calibration import Scaling
from training.export.figures import evaluate
from training.export.graph import export, write_golden
from training.export.publish import publish

# In alphabetical order, which is the order that class folders give.
CLASSES = ("blue", "green", "red")
CHANNELS = (2, 1, 0)


@pytest.fixture(autouse=True, scope="session")
def data_cache(tmp_path_factory):
    """Tests do not leave anything in the user's cache."""
    folder = tmp_path_factory.mktemp("datasets-cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", str(folder))
        datasets.disable_progress_bars()
        yield folder


@pytest.fixture(scope="session")
def make_manifest(colours):
    """A card for `exported_cnn`, or for other data and its evaluation."""

    def make(data=colours, evaluation=None):
        if evaluation is None:
            logits = [3 * np.eye(3, dtype=np.float32)[split.labels] for split in (data.validation, data.test)]
            logits[0][0] = logits[0][0][::-1]
            evaluation = evaluate(data.classes, logits[0], data.validation.labels, logits[1], data.test.labels)
        height, width, channels = data.shape
        return ClassifierManifest(
            name="colours",
            description="colours, for tests",
            labels=data.classes,
            inputs=(TensorSpec(name="images", dtype="uint8", shape=(-1, *data.shape)),),
            outputs=(TensorSpec(name="probabilities", dtype="float32", shape=(-1, len(data.classes))),),
            max_batch=16,
            image=ImageInput(height=height, width=width, channels=channels),
            data=DataCard(
                name=data.name,
                fingerprint=data.fingerprint,
                train=len(data.train),
                validation=len(data.validation),
                test=len(data.test),
            ),
            metrics=evaluation.metrics,
            calibration=evaluation.calibration,
            conformal=evaluation.conformal,
            training=TrainingCard(
                recipe="python -m training classification",
                settings={"epochs": 2, "seed": 0},
                epochs_run=2,
                best_epoch=2,
                seconds=1.0,
                parameters=1,
                versions={"python": "3"},
            ),
            golden=GoldenCard(rows=4, atol=1e-4),
            files={},
        )

    return make


def _forget_accelerator():
    """Accelerate allows only one device and precision per process."""
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()


@pytest.fixture(scope="session")
def forget_accelerator():
    return _forget_accelerator


@pytest.fixture(autouse=True)
def fresh_accelerator_state():
    _forget_accelerator()
    yield
    _forget_accelerator()


@pytest.fixture(scope="session")
def draw():
    """Noisy images whose brightest channel is their class, in the order of their labels."""

    def draw_colours(per_class, size=12, seed=0, classes=3):
        random = np.random.default_rng(seed)
        labels = np.repeat(np.arange(classes), per_class)
        images = random.integers(0, 100, (len(labels), size, size, 3), dtype=np.uint8)
        for image, label in zip(images, labels, strict=True):
            image[..., CHANNELS[label]] += 120
        return ImageSplit(images, labels)

    return draw_colours


@pytest.fixture(scope="session")
def png():
    def encode(pixels, kind="PNG", **options):
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, kind, **options)
        return buffer.getvalue()

    return encode


@pytest.fixture(scope="session")
def write_parquet(png):
    """A folder with one parquet file per split; an image is an array or the bytes of a file."""

    def write(folder, classes=CLASSES, **splits):
        folder.mkdir(parents=True, exist_ok=True)
        features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=list(classes))})
        for name, (images, labels) in splits.items():
            encoded = [image if isinstance(image, bytes) else png(image) for image in images]
            rows = {"image": [{"bytes": data, "path": None} for data in encoded], "label": [int(x) for x in labels]}
            datasets.Dataset.from_dict(rows, features=features).to_parquet(folder / f"{name}-00000-of-00001.parquet")
        return str(folder)

    return write


@pytest.fixture(scope="session")
def write_class_folders(png):
    """A folder of PNG files per class, below a folder per split; the split `""` is at the top."""

    def write(folder, classes=CLASSES, **splits):
        for name, (images, labels) in splits.items():
            for row, (image, label) in enumerate(zip(images, labels, strict=True)):
                path = folder / name.strip("_") / classes[label] / f"{row:04d}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(image if isinstance(image, bytes) else png(image))
        return str(folder)

    return write


@pytest.fixture(scope="session")
def colours(draw):
    """The three splits of a task that a tiny network learns in two epochs."""
    return ImageData("colours", CLASSES, draw(40, seed=1), draw(10, seed=2), draw(10, seed=3), "sha256:0")


@pytest.fixture(scope="session")
def tiny_cnn(colours):
    def build(seed=0, shape=(12, 12, 3), classes=3, dropout=0.0):
        torch.manual_seed(seed)
        return CNN(Normalize.of(colours.train), shape, classes, widths=(8, 8), depth=2, dropout=dropout)

    return build


@pytest.fixture(scope="session")
def exported_cnn(tiny_cnn, colours, tmp_path_factory):
    """A graph on disk, with what `export` returned."""
    path = tmp_path_factory.mktemp("exported") / "model.onnx"
    network = tiny_cnn()
    network.init_whiten(to_pixels(torch.from_numpy(colours.train.images)))
    graph = ClassifierGraph(network.eval(), Scaling(1.7))
    names = {"input_name": "images", "output_names": ("probabilities",)}
    card = GoldenCard(rows=4, atol=1e-4)
    inputs, outputs, worst = export(graph, colours.test.images, path, max_batch=16, card=card, **names)
    return SimpleNamespace(
        path=path, graph=graph, inputs=inputs, outputs=outputs[0], difference=worst.value, names=names
    )


@pytest.fixture(scope="session")
def colours_source(write_class_folders, colours, tmp_path_factory):
    """The colours as class folders."""
    splits = {name: getattr(colours, name) for name in ("train", "validation", "test")}
    folder = tmp_path_factory.mktemp("data") / "colours"
    return write_class_folders(folder, **{name: (split.images, split.labels) for name, split in splits.items()})


@pytest.fixture
def publish_colours(exported_cnn, make_manifest, colours_source, tmp_path):
    """Gives a models folder with the exported network as `colours/1`, whose data are those of `colours_source`."""
    data = load_images(colours_source)

    def publish_it():
        def write(folder):
            (folder / MODEL).write_bytes(exported_cnn.path.read_bytes())
            write_golden(exported_cnn.graph, data.test.images[:4], folder / GOLDEN, **exported_cnn.names)
            return make_manifest(data)

        publish(tmp_path, [("colours", write)])
        return tmp_path

    return publish_it


@pytest.fixture
def accelerator_in():
    def make(precision):
        _forget_accelerator()
        return Accelerator(cpu=True, mixed_precision=precision)

    return make


@pytest.fixture
def accelerator(accelerator_in):
    return accelerator_in("no")


@pytest.fixture
def console():
    return Console(file=io.StringIO(), width=200, markup=False)


@pytest.fixture
def train_on(colours, accelerator, console):
    """Trains a classifier of the colours."""

    def train(model, folder, settings=SETTINGS, learning=LEARNING, teacher=None, **options):
        options = {"accelerator": accelerator, "console": console, **options}
        task = Classification(colours.train, colours.validation, learning, teacher)
        return fit(model, task, settings, folder, **options)

    return train
