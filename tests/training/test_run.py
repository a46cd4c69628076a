import dataclasses
import shutil
from argparse import ArgumentParser
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from service.inference.manifest import GOLDEN, MODEL
from service.tasks.registry import read_manifest
from tests.training.detection.conftest import write_parquet as write_boxes
from tests.training.quick import LEARNING, SETTINGS
from tests.training.text.conftest import write_parquet as write_texts
from training.__main__ import main
from training.classification.labels import LabelledImages
from training.engine.weights import WEIGHTS, best_weights
from training.export.graph import write_golden
from training.old_run import as_served, begin
from training.options import add_labelled_image_options, add_result_options, add_training_options, integers, short_name
from training.report.samples import draw_images


@pytest.fixture
def start(colours, console, tmp_path):
    """Starts a run on the colours with some options."""

    def begin_with(*options, run_dir=tmp_path / "run"):
        parser = ArgumentParser()
        add_labelled_image_options(parser, "somebody/colours")
        add_training_options(parser, "", {"any": SETTINGS})
        add_result_options(parser, "")
        fixed = ["--device", "cpu", "--models", tmp_path / "models", *(["--run-dir", run_dir] if run_dir else [])]
        arguments = parser.parse_args([str(option) for option in (*fixed, *options)])
        return begin(
            arguments, console, lambda: colours, run="classification-cnn", model="classifier", draw=draw_images
        )

    return begin_with


def test_data_and_model_have_the_names_that_were_asked_for(start):
    run = start(run_dir=None)
    assert (run.name, run.data.name, str(run.folder)) == ("classifier", "colours", "runs/classification-cnn-colours")
    run = start("--name", "mine", "--data-name", "Some/Colours", run_dir=None)
    assert (run.name, run.data.name) == ("mine", "Some/Colours")
    assert str(run.folder) == "runs/classification-cnn-Some-Colours"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--name", "a name"], "only letters, digits, dots, dashes and underscores are allowed"),
        (["--name", "../up"], "only letters"),
        (["--precision", "float16"], "--precision float16 needs a GPU"),
    ],
)
def test_invalid_options_are_refused_before_the_data_is_loaded(console, options, message):
    parser = ArgumentParser()
    add_labelled_image_options(parser, "somebody/colours")
    add_training_options(parser, "", {"any": SETTINGS})
    add_result_options(parser, "")
    arguments = parser.parse_args(["--device", "cpu", *options])
    with pytest.raises(ValueError, match=message):
        begin(arguments, console, lambda: pytest.fail("loaded"), run="x", model="x", draw=draw_images)


def test_a_run_says_what_it_is_trained_on(start, console):
    start().announce("images", " of 12x12x3", ("red", "green"), {"test": np.array([0, 0])})
    assert "colours: 120 training, 30 validation and 30 test images of 12x12x3; on cpu" in console.file.getvalue()
    assert "The test split has nothing of green" in console.file.getvalue()


@pytest.fixture
def trained(start, colours, tiny_cnn):
    """Trains a network with some options."""

    def train(*options, settings=SETTINGS, seed=0, **origin):
        run, model = start(*options), tiny_cnn(seed)
        run.start(model)
        task = LabelledImages(colours.train, colours.validation, LEARNING.augment)
        return run, model, run.fit(model, task, settings, **origin)

    return train


def test_a_run_is_only_resumed_with_what_it_began_with(trained, forget_accelerator, tmp_path):
    trained(learning=LEARNING)
    _, _, state = trained("--resume", learning=LEARNING)
    assert state.epoch == 2
    checkpoint = tmp_path / "run" / "checkpoint.pt"
    saved = torch.load(checkpoint, weights_only=True)
    before = {name: value for name, value in saved["settings"].items() if name != "division"}  # all of validation
    torch.save(saved | {"settings": before}, checkpoint)
    with pytest.raises(ValueError, match=r"made with other settings .*division"):
        trained("--resume", learning=LEARNING)
    torch.save(saved, checkpoint)
    with pytest.raises(ValueError, match=r"made with other settings .*label_smoothing"):
        trained("--resume", learning=dataclasses.replace(LEARNING, label_smoothing=0.3))
    forget_accelerator()
    with pytest.raises(ValueError, match=r"made with other settings .*precision"):
        trained("--resume", "--precision", "bfloat16", learning=LEARNING)


def test_a_run_starts_from_another(trained, tmp_path):
    trained()
    first = best_weights(tmp_path / "run")
    _, model, _ = trained("--start-from", tmp_path / "run", settings=dataclasses.replace(SETTINGS, lr=0, ema=0), seed=5)
    assert all(torch.equal(value, first[name]) for name, value in model.named_parameters())


def test_the_settings_are_stated_in_plain_types(start, tmp_path):
    version = tmp_path / "models" / "classifier" / "3"
    version.mkdir(parents=True)
    (version / WEIGHTS).touch()
    run = start("--start-from", version)
    stated = run.stated(SETTINGS, LEARNING)
    assert stated["precision"] == "float32"
    assert stated["start_from"] == "classifier/3"
    assert (stated["epochs"], stated["label_smoothing"], stated["augment"]["cutout"]) == (2, 0.1, 3)


def test_drafts_lie_in_the_run_and_versions_below_models(start, exported_cnn, colours, make_manifest, tmp_path):
    def write(folder):
        shutil.copy(exported_cnn.path, folder / MODEL)
        write_golden(exported_cnn.graph, colours.test.images[:4], folder / GOLDEN, **exported_cnn.names)
        return make_manifest()

    start().deliver(("one", write))
    start().deliver(("two", write), ("three", write))
    assert not (tmp_path / "models").exists()
    for draft in ("export", "export/two", "export/three"):
        assert read_manifest(tmp_path / "run" / draft).files.keys() == {MODEL, GOLDEN}
    start("--publish").deliver(("two", write), ("three", write))
    assert sorted(str(path.relative_to(tmp_path)) for path in (tmp_path / "models").glob("*/*")) == [
        "models/three/1", "models/two/1",
    ]  # fmt: skip


def test_a_served_model_is_in_plain_memory_order_and_evaluation_mode(tiny_cnn):
    model = as_served(tiny_cnn().to(memory_format=torch.channels_last).train())
    assert all(parameter.is_contiguous() for parameter in model.parameters())
    assert not model.training


def test_options_of_several_integers():
    assert integers("64,256,256") == (64, 256, 256)


def test_versions_and_runs_are_called_by_the_end_of_their_path(tmp_path):
    assert short_name(tmp_path / "models" / "classifier" / "12") == "classifier/12"
    assert short_name(tmp_path / "runs" / "second") == "second"
    assert short_name(None) is None


class _Stopped(BaseException):
    """Ends a recipe that has said all that a test asks."""


@pytest.mark.parametrize("task", ["classification", "detection", "autoencoder", "text", "tabular"])
def test_an_epoch_is_chosen_by_the_selection_half_alone(task, colours_source, tmp_path, monkeypatch):
    seen = {}

    def fit(run, model, task, settings, **origin):
        seen["data"], seen["validation"] = run.data, task._validation
        raise _Stopped

    monkeypatch.setattr("training.old_run.Run.fit", fit)
    monkeypatch.setattr("training.autoencoder.recipe.train_judge", lambda *_: SimpleNamespace(accuracy=lambda *_: 1.0))
    command = [task, "--device", "cpu", "--run-dir", str(tmp_path / "run")]
    match task:
        case "classification" | "autoencoder":
            command += ["--data", colours_source]
        case "detection":
            splits = {"train": range(16), "validation": range(100, 107), "test": range(200, 202)}
            command += ["--data", write_boxes(tmp_path / "data", **splits), "--backbone", "test_efficientnet"]
            command += ["--weights", "none", "--image-size", "64x96"]
        case "text":
            command += ["--data", write_texts(tmp_path / "data", train=160, test=60)]
    with pytest.raises(_Stopped):
        main(command)
    data = seen["data"]
    selection, calibration = data.division
    validation = seen["validation"][1] if task == "text" else seen["validation"]  # texts, and their labels
    assert len(validation) == len(selection) == (len(data.validation) + 1) // 2
    if task in ("classification", "detection"):
        np.testing.assert_array_equal(validation.images, data.validation.images[selection])
    assert len(calibration) == len(data.validation) // 2
