import dataclasses
import os
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tests.training.detection.conftest import write_parquet as write_boxes
from tests.training.quick import LEARNING, SETTINGS
from tests.training.text.conftest import write_parquet as write_texts
from training import start as starting
from training.__main__ import main
from training.classification.learner import Classification
from training.classification.options import ClassificationOptions
from training.classification.recipe import ClassificationRecipe
from training.engine.weights import WEIGHTS, best_weights, start_from
from training.options import BackboneFitOptions, PublishOptions, short_name
from training.phases import Work
from training.run import Declined, as_served


@pytest.fixture
def start(colours, console, tmp_path):
    """Starts a run on the colours with some options."""

    class Recipe(ClassificationRecipe):
        def load(self, options):
            return colours

        def fast_precision(self, options, data):
            return self.safe

    def start_with(run_dir=tmp_path / "run", ask=False, yes=False, safe=(), **options):
        publishing, Recipe.safe = PublishOptions(models=tmp_path / "models", yes=yes), safe
        chosen = ClassificationOptions(data="colours", device="cpu", run_dir=run_dir, publishing=publishing, **options)
        return starting.start(Recipe(), chosen, console, ask=ask)

    return start_with


def test_data_and_model_have_the_names_that_were_asked_for(start, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    run = start(run_dir=None)
    assert (run.name, run.data.name, str(run.folder)) == ("classifier", "colours", "runs/classification-colours")
    run = start(run_dir=None, name="mine", data_name="Some/Colours")
    assert (run.name, run.data.name) == ("mine", "Some/Colours")
    assert str(run.folder) == "runs/classification-Some-Colours"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "a name"}, "only letters, digits, dots, dashes and underscores are allowed"),
        ({"name": "../up"}, "only letters"),
        ({"precision": "float16"}, "--precision float16 needs a GPU"),
        ({"device": "gpu"}, "must be auto, cpu, cuda or cuda:N"),
        ({"interpolate": True}, "--interpolate moves back towards the weights of --init-from"),
    ],
)
def test_invalid_options_are_refused_before_the_data_is_loaded(console, options, message):
    class Recipe(ClassificationRecipe):
        def load(self, options):
            pytest.fail("loaded")

    with pytest.raises(ValueError, match=message):
        starting.start(Recipe(), ClassificationOptions(**{"data": "x", "device": "cpu", **options}), console)


def test_a_run_says_what_it_is_trained_on(start, console):
    start().warn_of_absent(("red", "green"), {"test": np.array([0, 0])})
    assert "colours: 120 training, 30 validation and 30 test images of 12x12x3" in console.file.getvalue()
    assert "The test split has nothing of green" in console.file.getvalue()


@pytest.fixture
def trained(start, colours, tiny_cnn):
    """Trains a network with some options."""

    def train(settings=SETTINGS, seed=0, origin=None, **options):
        run, model = start(**options), tiny_cnn(seed)
        run.settings = settings
        if run.options.init_from:
            start_from(model, run.options.init_from)
        learner = Classification(colours.train, colours.validation, LEARNING)
        return run, model, run.fit(model, learner, origin or {})

    return train


def test_a_run_is_only_resumed_with_what_it_began_with(trained, forget_accelerator, tmp_path):
    origin = {"learning": LEARNING}
    trained(origin=origin)
    _, _, state = trained(origin=origin, resume=True)
    assert state.epoch == 2
    checkpoint = tmp_path / "run" / "checkpoint.pt"
    saved = torch.load(checkpoint, weights_only=True)
    before = {name: value for name, value in saved["settings"].items() if name != "division"}  # all of validation
    torch.save(saved | {"settings": before}, checkpoint)
    with pytest.raises(ValueError, match=r"made with other settings .*division"):
        trained(origin=origin, resume=True)
    torch.save(saved, checkpoint)
    with pytest.raises(ValueError, match=r"made with other settings .*label_smoothing"):
        trained(origin={"learning": dataclasses.replace(LEARNING, label_smoothing=0.3)}, resume=True)
    forget_accelerator()
    with pytest.raises(ValueError, match=r"made with other settings .*precision"):
        trained(origin=origin, resume=True, precision="bfloat16")


def test_a_run_starts_from_another(trained, tmp_path):
    trained()
    first = best_weights(tmp_path / "run")
    settings = dataclasses.replace(SETTINGS, lr=0, ema=0)
    _, model, _ = trained(settings=settings, seed=5, init_from=tmp_path / "run", yes=True)
    assert all(torch.equal(value, first[name]) for name, value in model.named_parameters())


def test_the_settings_are_stated_in_plain_types(start, tmp_path):
    version = tmp_path / "models" / "classifier" / "3"
    version.mkdir(parents=True)
    (version / WEIGHTS).touch()
    run = start(init_from=version)
    run.settings = SETTINGS
    stated = run.stated(LEARNING)
    assert stated["precision"] == "float32"
    assert stated["start_from"] == "classifier/3"
    assert (stated["epochs"], stated["label_smoothing"], stated["augment"]["cutout"]) == (2, 0.1, 3)


def test_a_served_model_is_in_plain_memory_order_and_evaluation_mode(tiny_cnn):
    model = as_served(tiny_cnn().to(memory_format=torch.channels_last).train())
    assert all(parameter.is_contiguous() for parameter in model.parameters())
    assert not model.training


def test_versions_and_runs_are_called_by_the_end_of_their_path(tmp_path):
    assert short_name(tmp_path / "models" / "classifier" / "12") == "classifier/12"
    assert short_name(tmp_path / "runs" / "second") == "second"
    assert short_name(None) is None


class _Stopped(BaseException):
    """Ends a recipe that has said all that a test asks."""


@pytest.mark.parametrize("task", ["classification", "detection", "autoencoder", "text", "tabular"])
def test_an_epoch_is_chosen_by_the_selection_half_alone(task, colours_source, tmp_path, monkeypatch):
    seen = {}

    def fit(run, network, learner, origin):
        seen["data"], seen["validation"] = run.data, learner._validation
        raise _Stopped

    monkeypatch.setattr("training.run.Run.fit", fit)
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


def test_a_training_that_was_stopped_is_not_replaced_without_a_word(start, trained, console, monkeypatch, tmp_path):
    trained()  # complete, but nothing is exported
    with pytest.raises(ValueError, match=r"run holds a training that is complete .* --resume.* --run-dir.* --yes"):
        start()
    monkeypatch.setattr(console, "input", lambda _: "n")
    with pytest.raises(Declined):
        start(ask=True)
    assert "is complete after 2 epochs, but was not exported: continue it with --resume, or" in console.file.getvalue()
    monkeypatch.setattr(console, "input", lambda _: "y")
    start(ask=True)
    start(yes=True)
    start(resume=True)
    (tmp_path / "run" / "export").mkdir()
    (tmp_path / "run" / "export" / "manifest.json").touch()
    start()


def test_the_only_copy_of_a_model_of_other_data_is_not_replaced_without_a_word(start, trained, monkeypatch, tmp_path):
    trained()
    (tmp_path / "run" / "export").mkdir()
    (tmp_path / "run" / "export" / "manifest.json").touch()
    copies = {"found": None}
    monkeypatch.setattr("training.start.published_as", lambda models, draft: copies["found"])
    start()
    recorded = tmp_path / "run" / "checkpoint.pt"
    saved = torch.load(recorded)
    torch.save(saved | {"settings": saved["settings"] | {"data": "sha256:other"}}, recorded)
    os.utime(recorded, (1, 1))
    with pytest.raises(ValueError, match=r"run holds an unpublished model of other data: publish it with quartet pub"):
        start()
    copies["found"] = "classifier/1"
    start()


def test_a_resumed_training_is_estimated_with_its_validation_and_its_folds(start, trained, console):
    _, _, state = trained()
    assert state.validation_seconds > 0
    run = start(yes=True)
    run.folds = True
    run.options = dataclasses.replace(run.options, cross_validate=5)
    run.phases.seconds["baseline"] = 4
    run.work = [Work(name="export and evaluation", seconds=16), Work(name="histograms", seconds=100)]
    run.estimate(90, 10, 1)
    assert "This will take at most 12:06 min" in console.file.getvalue()  # 10 + 16 + 100 + 5 * (4 + 100 + 16)


def test_a_class_name_is_not_markup(start, console):
    start().warn_of_absent(("[/b]", "[misc]"), {"test": np.array([], np.int64)})
    assert "The test split has nothing of [/b], [misc]" in console.file.getvalue()


def test_a_folder_that_cannot_be_written_is_named(start, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"file/run cannot be written \(Not a directory\): choose another --run-dir"):
        start(run_dir=tmp_path / "file" / "run")


@pytest.mark.parametrize("safe", [True, False])
def test_bfloat16_is_chosen_where_it_is_fast_and_safe(start, console, monkeypatch, forget_accelerator, tmp_path, safe):
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: True)
    run = start(safe={"cpu"} if safe else ())
    precision = "bfloat16" if safe else "float32"
    assert (run.options.precision, run.accelerator.mixed_precision) == (precision, "bf16" if safe else "no")
    said = "precision: bfloat16, since this CPU has AMX; --precision float32 overrides this"
    assert (said in console.file.getvalue()) == safe
    (tmp_path / "other").mkdir()
    torch.save({"settings": {"precision": "bfloat16"}}, tmp_path / "other" / "checkpoint.pt")
    forget_accelerator()
    assert start(run_dir=tmp_path / "other", resume=True).options.precision == "bfloat16"  # that of the checkpoint


def test_a_rate_that_was_found_is_kept_when_the_training_continues(trained, forget_accelerator, console):
    run, *_ = trained(fit=BackboneFitOptions(lr="find"))
    assert f"learning rate: {run.settings.lr:g} (the default is 0.2)" in console.file.getvalue()
    assert run.stated()["lr"] == run.settings.lr != SETTINGS.lr
    again, _, state = trained(fit=BackboneFitOptions(lr="find"), resume=True)
    assert (again.settings, state.epoch) == (run.settings, 2)


def test_a_long_training_gets_advice(start, console):
    run = start()
    run.advice = ["--epochs 10", "a smaller --image-size"]
    run.estimate(0, 500, 1)
    assert "Faster" not in console.file.getvalue()
    run.estimate(0, 700, 1)
    assert "Faster: --epochs 10; a smaller --image-size." in console.file.getvalue()
