import io
import json
import shutil

import numpy as np
import pytest
import torch
from rich.console import Console

from service.inference.manifest import MODEL, InvalidModel, sha256
from service.inference.session import Session
from service.tasks.registry import read_manifest
from training.backbones.registry import load_backbone
from training.classification import recipe
from training.classification.network import Transfer
from training.classification.options import DEFAULTS, ClassificationOptions, NetworkSettings
from training.engine.weights import CHECKPOINT, best_weights
from training.options import override
from training.parser import parse
from training.train import Unfinished, train

# After an epoch it is worse than logistic regression, hence --yes.
TINY = [
    "--arch", "cnn", "--widths", "8,8", "--depth", "2", "--epochs", "1", "--batch-size", "10", "--device", "cpu",
    "--yes",
]  # fmt: skip


def untrained(name, weights):
    return load_backbone("test_efficientnet", "none")


def parse_options(*options):
    return parse(ClassificationOptions, [str(option) for option in options], "python -m training classification")


def run(*options):
    console = Console(file=io.StringIO(), width=200)
    try:
        train(recipe.ClassificationRecipe(), parse_options(*options), console)
    except Unfinished as error:
        raise error.__cause__ from None
    return console.file.getvalue()


@pytest.fixture(scope="module")
def source(write_parquet, draw, tmp_path_factory):
    splits = {name: draw(10, seed=i) for i, name in enumerate(("train", "validation", "test"))}
    folder = tmp_path_factory.mktemp("data") / "colours"
    return write_parquet(folder, **{name: (split.images, split.labels) for name, split in splits.items()})


@pytest.fixture(scope="module")
def first(source, tmp_path_factory):
    """A run that others start from, and its console output; nobody changes it."""
    folder = tmp_path_factory.mktemp("runs")
    said = run(*TINY, "--data", source, "--run-dir", folder / "first", "--models", folder / "models")
    return folder / "first", said


@pytest.mark.parametrize("arch", DEFAULTS)
def test_omitted_options_have_the_default_of_the_architecture(arch):
    options = parse_options("--arch", arch)
    assert override(DEFAULTS[arch], options.fit) == DEFAULTS[arch]
    assert options.network == NetworkSettings(arch=arch)


def test_options_given_override_the_defaults_and_leave_the_others():
    options = parse_options("--widths", "4,5", "--depth", 1, "--dropout", 0.2, "--lr", 0.05, "--epochs", 7, "--freeze")
    network = options.network
    assert (network.widths, network.depth, network.dropout, network.freeze) == ((4, 5), 1, 0.2, -1)
    settings = override(DEFAULTS["cnn"], options.fit)
    assert (settings.lr, settings.epochs) == (0.05, 7)
    assert settings.batch_size == DEFAULTS["cnn"].batch_size


def test_without_publishing_a_draft_that_can_be_read_lies_in_the_run(first):
    folder, said = first
    draft = folder / "export"
    assert "publishes it" in said
    assert not (folder.parent / "models").exists()
    assert (draft / "report" / "README.md").is_file()
    manifest = read_manifest(draft)
    assert manifest.max_batch == recipe.MAX_BATCH > 30  # more than there are test images
    names = ["brightness", "sharpness", "label", "confidence", "unfamiliar"]
    assert [each.name for each in manifest.histograms] == names


@pytest.mark.parametrize(("options", "cutout"), [([], 16), (["--cutout", 3], 3)])
def test_augmentation_grows_with_the_images_unless_an_option_gives_its_pixels(source, tmp_path, options, cutout):
    run(
        "--arch", "cnn", "--widths", "4,4", "--epochs", 1, "--batch-size", 10, "--device", "cpu", "--limit", 10,
        "--data", source, "--image-size", 64, "--run-dir", tmp_path, *options,
    )  # fmt: skip
    augment = read_manifest(tmp_path / "export").training.settings["augment"]
    assert (augment["translate"], augment["cutout"]) == (8, cutout)


def test_manifest_says_what_was_done(source, tmp_path):
    run(
        *TINY, "--data", source, "--run-dir", tmp_path / "run", "--models", tmp_path / "models", "--publish",
        "--seed", 5, "--limit", 21, "--name", "tiny", "--data-name", "Colours",
    )  # fmt: skip
    manifest = read_manifest(tmp_path / "models" / "tiny" / "1")
    assert manifest.name == "tiny"
    assert manifest.labels == ("blue", "green", "red")
    assert (manifest.data.name, manifest.data.train, manifest.data.validation, manifest.data.test) == (
        "Colours", 21, 21, 21,
    )  # fmt: skip
    assert (manifest.image.height, manifest.image.width, manifest.image.channels) == (12, 12, 3)
    assert manifest.training.settings["seed"] == 5
    assert manifest.training.settings["widths"] == [8, 8]
    assert manifest.training.epochs_run == manifest.training.best_epoch == 1
    (step,) = manifest.history
    assert (step.kind, step.epochs, step.best_epoch, step.resumed) == ("train", 1, 1, ())
    assert step.settings == manifest.training.settings
    used = {(use.split, use.part, use.purpose): use.items for use in step.uses}
    chosen = used["validation", "selection", "choice of the epoch"]
    assert (
        used["validation", "calibration", "label sets"] == used["validation", "calibration", "p-values"] == 21 - chosen
    )
    assert used["train", "all", "network weights"] == used["test", "all", "figures"] == 21
    card = (tmp_path / "models" / "tiny" / "1" / "report" / "README.md").read_text()
    assert f"Step 1 kept the weights of epoch 1, the best on {chosen} of the 21 validation images." in card
    assert "The test split (21 images) was evaluated once: in step 1." in card
    assert manifest.golden.rows == 16
    assert str(tmp_path) not in manifest.model_dump_json()


def test_a_network_learns_from_a_published_one_and_says_from_which(source, tmp_path):
    options = [*TINY, "--data", source, "--models", tmp_path / "models", "--publish"]
    run(*options, "--run-dir", tmp_path / "teacher", "--name", "large")
    run(*options, "--run-dir", tmp_path / "run", "--name", "small", "--teacher", tmp_path / "models" / "large" / "1")
    small, large = (tmp_path / "models" / name / "1" for name in ("small", "large"))
    assert read_manifest(small).training.settings["teacher"] == "large/1"
    teacher = read_manifest(small).history[-1].teacher
    assert (teacher.name, teacher.file, teacher.sha256) == ("large/1", MODEL, sha256(large / MODEL))
    assert read_manifest(tmp_path / "models" / "large" / "1").training.settings["teacher"] is None
    assert list((tmp_path / "run").glob("teacher-*.npz"))


def test_a_network_learns_a_teachers_features_and_another_run_starts_from_it(source, tmp_path):
    options = [*TINY, "--data", source, "--models", tmp_path / "models"]
    run(*options, "--run-dir", tmp_path / "teacher", "--name", "large", "--publish")
    guided = [*options, "--teacher", tmp_path / "models" / "large" / "1", "--distill-features", 10]
    run(*guided, "--run-dir", tmp_path / "guided", "--name", "small", "--publish")
    settings = read_manifest(tmp_path / "models" / "small" / "1").training.settings
    assert settings["distill_features"] == 10
    assert sum("map" in name for name in torch.load(tmp_path / "guided" / "checkpoint.pt")["best"]) == 2
    run(*options, "--run-dir", tmp_path / "next", "--init-from", tmp_path / "guided")
    assert best_weights(tmp_path / "next").keys() == best_weights(tmp_path / "teacher").keys()


def test_the_history_of_a_run_goes_on_in_those_that_start_from_it_or_resume_it(source, first, tmp_path):
    options = [*TINY, "--data", source, "--run-dir", tmp_path / "second"]
    run(*options, "--init-from", first[0])
    before, step = read_manifest(tmp_path / "second" / "export").history
    assert (before,) == read_manifest(first[0] / "export").history
    assert (step.initial.name, step.initial.file) == ("first", CHECKPOINT)
    assert step.initial.sha256 == sha256(first[0] / CHECKPOINT)
    run(*options, "--init-from", first[0], "--resume", "--epochs", 2)
    longer = read_manifest(tmp_path / "second" / "export").history
    assert longer[:2] == (before, step)
    assert (longer[2].epochs, longer[2].resumed) == (2, (1,))


def test_a_run_that_left_no_record_is_said_to_have_none(source, first, tmp_path):
    (tmp_path / "lost").mkdir()
    shutil.copy(first[0] / CHECKPOINT, tmp_path / "lost")
    run(*TINY, "--data", source, "--run-dir", tmp_path / "run", "--init-from", tmp_path / "lost")
    before, step = read_manifest(tmp_path / "run" / "export").history
    assert before.uses is None
    assert before.note == "The run lost left no record."
    assert step.initial.sha256 == sha256(first[0] / CHECKPOINT)


def test_training_starts_from_the_best_weights_of_another_run(source, first, tmp_path):
    # With a learning rate of 0 and no averaging, the weights do not change.
    options = ["--lr", "0", "--epochs", "1", "--ema", "0", "--init-from", first[0]]
    run(*TINY, "--data", source, "--run-dir", tmp_path / "second", *options)
    before, after = best_weights(first[0]), best_weights(tmp_path / "second")
    learned = [name for name in before if name.endswith("weight")]
    assert all(torch.equal(before[name], after[name]) for name in learned)
    assert (
        json.loads((tmp_path / "second" / "export" / "manifest.json").read_text())["training"]["settings"]["start_from"]
        == "first"
    )


def test_a_published_version_that_kept_its_weights_can_be_started_from(source, tmp_path):
    options = ["--data", source, "--models", tmp_path / "models", "--publish", "--name", "small"]
    run(*TINY, *options, "--run-dir", tmp_path / "first", "--keep-weights")
    version = tmp_path / "models" / "small" / "1"
    assert "weights.safetensors" not in read_manifest(version).files
    kept, trained = best_weights(version), best_weights(tmp_path / "first")
    assert kept.keys() == trained.keys()
    for name, value in trained.items():
        torch.testing.assert_close(kept[name], value, rtol=1e-3, atol=1e-4)
    run(*TINY, "--data", source, "--run-dir", tmp_path / "second", "--init-from", version)


def test_a_mirroring_graph_gives_the_same_answer_for_an_image_and_its_mirror_image(source, tmp_path, draw):
    options = ["--data", source, "--models", tmp_path / "models", "--publish", "--name", "small", "--keep-weights"]
    run(*TINY, *options, "--run-dir", tmp_path / "run", "--test-time-flip")
    version = tmp_path / "models" / "small" / "1"
    assert read_manifest(version).training.settings["mirror"] is True
    images = draw(5, seed=3).images
    session = Session(version / MODEL, "cpu")
    plain, turned = (session.run({"images": view})[0] for view in (images, images[:, :, ::-1].copy()))
    assert np.abs(plain - 1 / 3).max() > 0.01  # its predictions differ between the classes
    np.testing.assert_allclose(plain, turned, atol=1e-5)
    run(*TINY, "--data", source, "--run-dir", tmp_path / "second", "--init-from", version)


def test_final_weights_may_be_interpolated(source, first, tmp_path, monkeypatch):
    monkeypatch.setattr("training.engine.interpolate.WEIGHTS", (0.25,))
    options = ["--init-from", first[0], "--interpolate", "--keep-weights"]
    said = run(*TINY, *options, "--data", source, "--run-dir", tmp_path / "second")
    assert "25% of the way" in said
    draft = tmp_path / "second" / "export"
    assert read_manifest(draft).training.settings["interpolated"] == 0.25
    before, after = best_weights(first[0]), best_weights(tmp_path / "second")
    between = torch.lerp(before["head.weight"], after["head.weight"], 0.25)
    torch.testing.assert_close(best_weights(draft)["head.weight"], between, atol=1e-3, rtol=0)


def test_kept_statistics_are_those_that_training_began_with(source, tmp_path):
    backbone = ["--arch", "transfer", "--backbone", "test_efficientnet", "--weights", "none", "--network-size", "32"]
    run(
        *backbone, "--freeze-norms", "--epochs", 1, "--batch-size", 10, "--device", "cpu", "--precision", "bfloat16",
        "--data", source, "--run-dir", tmp_path / "run",
    )  # fmt: skip
    learned = best_weights(tmp_path / "run")
    means = [value for name, value in learned.items() if name.endswith("running_mean")]
    assert means
    assert not torch.cat(means).any()
    assert (tmp_path / "run" / "export" / MODEL).is_file()


def test_a_run_to_start_from_must_be_one_of_the_same_network(source, first, tmp_path):
    with pytest.raises(ValueError, match=r"nothing: holds neither a run's checkpoint\.pt"):
        run(*TINY, "--data", source, "--run-dir", tmp_path / "run", "--init-from", tmp_path / "nothing")
    options = ["--arch", "mlp", "--init-from", first[0]]
    with pytest.raises(ValueError, match="is a run of another network"):
        run("--data", source, "--run-dir", tmp_path / "run", *options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--arch", "cnn", "--freeze-norms"], "--freeze-norms is for --arch transfer, not cnn"),
        (["--arch", "transfer", "--widths", "8,8"], "--widths is for --arch cnn, not transfer"),
        (["--arch", "mlp", "--network-size", 160], "--network-size is for --arch transfer"),
        (["--arch", "cnn", "--distill", 0.5], "--distill weights the predictions of a --teacher"),
        (["--arch", "cnn", "--distill-features", 5], "--distill-features weights the features of a --teacher"),
        (["--arch", "mlp", "--distill-features", 5], "--distill-features is for --arch cnn"),
        (["--arch", "cnn", "--no-flip", "--test-time-flip"], "--test-time-flip predicts mirror images"),
        (["--arch", "cnn", "--interpolate"], "--interpolate moves back towards the weights of --init-from"),
        (["--arch", "cnn", "--warmup", 5], "--warmup 5: must be at least 0"),
        (["--arch", "cnn", "--epochs", 0], "0 epochs"),
        (["--arch", "cnn", "--optimizer", "adamw"], "--optimizer adamw needs its own --lr"),
        (
            ["--arch", "transfer", "--freeze", "--backbone-lr", 0.1],
            "--backbone-lr has no effect",
        ),
        (
            ["--arch", "transfer", "--backbone", "resnet18.nope", "--weights", "none"],
            "resnet18.nope .* cannot be loaded",
        ),
    ],
)
def test_ineffective_or_invalid_options_are_refused(source, tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        run(*options, "--device", "cpu", "--data", source, "--run-dir", tmp_path / "run")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--arch", "cnn", "--depth", 0], "--depth 0: a network needs filters and layers"),
        (["--arch", "cnn", "--widths", "0,8"], "a network needs filters and layers"),
        (["--arch", "mlp", "--dropout", 1], "--dropout 1: must be at least 0 and less than 1"),
        (["--arch", "cnn", "--label-smoothing", 1.5], "--label-smoothing 1.5: must be at least 0 and at most 1"),
        (["--arch", "cnn", "--cutmix", -1], "--cutmix -1: must be at least 0 and at most 1"),
    ],
)
def test_settings_that_are_out_of_range_are_mistakes_of_the_command_line(capsys, options, message):
    with pytest.raises(SystemExit):
        parse_options(*options)
    assert message in capsys.readouterr().err


def test_the_manifest_states_the_settings_that_were_in_force(first):
    settings = read_manifest(first[0] / "export").training.settings
    assert "widths" in settings
    unused = {"backbone", "freeze", "network_size", "backbone_lr", "distill", "distill_temperature"}
    assert not settings.keys() & unused


def test_a_run_on_other_splits_of_the_data_is_warned_about(write_class_folders, draw, tmp_path):
    whole = draw(20)
    folder = write_class_folders(tmp_path / "set", _=(whole.images, whole.labels))
    first, again = [*TINY, "--data", folder], ["--init-from", tmp_path / "first"]
    run(*first, "--run-dir", tmp_path / "first")
    assert "too good" not in run(*first, "--run-dir", tmp_path / "second", *again)
    assert "too good" in run(*first, "--run-dir", tmp_path / "third", *again, "--seed", 1)
    card = (tmp_path / "first" / "export" / "report" / "README.md").read_text()
    assert "The validation and test images were held out from the training split." in card


def test_a_run_on_another_validation_split_is_warned_about(write_parquet, draw, tmp_path):
    splits = {name: draw(20, seed=i) for i, name in enumerate(("train", "test"))}
    folder = write_parquet(tmp_path / "set", **{name: (split.images, split.labels) for name, split in splits.items()})
    run(*TINY, "--data", folder, "--run-dir", tmp_path / "first")
    again = [*TINY, "--data", folder, "--run-dir", tmp_path / "second", "--init-from", tmp_path / "first"]
    assert "that are validation images now" in run(*again, "--seed", 1)


def test_a_run_goes_on_with_the_teacher_it_began_with_alone(source, first, tmp_path):
    run(*TINY, "--data", source, "--run-dir", tmp_path / "b", "--seed", 1)
    taught = [*TINY, "--data", source, "--run-dir", tmp_path / "run", "--resume", "--teacher"]
    run(*taught, first[0] / "export")
    run(*taught, first[0] / "export")
    with pytest.raises(ValueError, match=r"was made with other settings .*teacher export"):
        run(*taught, tmp_path / "b" / "export")


def test_an_unused_size_is_reported(source, tmp_path):
    backbone = ["--arch", "transfer", "--backbone", "test_efficientnet", "--weights", "none", "--epochs", 1]
    options = [*backbone, "--batch-size", 10, "--device", "cpu", "--data", source]
    assert "--network-size 8: the images are no smaller" in run(
        *options, "--network-size", 8, "--run-dir", tmp_path / "small"
    )
    assert "--network-size" not in run(*options, "--network-size", 32, "--run-dir", tmp_path / "large")


def test_a_teacher_that_is_not_a_model_is_refused(source, tmp_path):
    with pytest.raises(InvalidModel, match=r"manifest\.json: is missing"):
        run(*TINY, "--data", source, "--run-dir", tmp_path / "run", "--teacher", tmp_path)


class Own(torch.nn.Module):
    """A backbone that no library knows."""

    def __init__(self):
        super().__init__()
        self.stem = torch.nn.Conv2d(3, 8, 3, 2, 1)

    def forward(self, pixels):
        return self.stem(pixels).relu()


def test_a_network_by_import_path_trains_and_is_exported(source, tmp_path, draw):
    backbone = ["--arch", "transfer", "--backbone", f"{__name__}:Own", "--weights", "none", "--network-size", "16"]
    options = ["--start-size", "16", "--epochs", 1, "--batch-size", 10, "--device", "cpu"]
    run(*backbone, *options, "--data", source, "--run-dir", tmp_path / "run")
    manifest = read_manifest(tmp_path / "run" / "export")
    assert manifest.training.settings["backbone"] == f"{__name__}:Own"
    answers = Session(tmp_path / "run" / "export" / MODEL, "cpu").run({"images": draw(2, seed=4).images})[0]
    np.testing.assert_allclose(answers.sum(1), 1, atol=1e-5)


def test_photographs_start_from_the_baseline_and_the_log_says_why(source, tmp_path, monkeypatch):
    """A network of random weights in place of the pretrained one."""
    for module in ("network", "baseline"):
        monkeypatch.setattr(f"training.classification.{module}.load_backbone", untrained)
    monkeypatch.setattr("training.data.foreign.MOST", 20)  # images to tell from the test images, at 224 pixels
    said = run(
        "--data", source, "--image-size", 72, "--epochs", 1, "--batch-size", 10, "--device", "cpu",
        "--run-dir", tmp_path,
    )  # fmt: skip
    assert (
        "network: transfer (tf_efficientnet_lite0, pretrained, at 224 pixels), since the images are enlarged to 72 x 72"
        in said
    )
    manifest = read_manifest(tmp_path / "export")
    settings, baseline = manifest.training.settings, manifest.baseline
    assert (settings["arch"], settings["freeze"], settings["freeze_norms"]) == ("transfer", -1, True)
    assert "the backbone is frozen, since 30 training images are few" in said
    assert baseline.name == "logistic regression on frozen features of tf_efficientnet_lite0"
    assert (baseline.figure, baseline.items) == ("accuracy", 30)
    initial = torch.load(tmp_path / CHECKPOINT)["state"]["initial"]
    assert initial["accuracy"] == pytest.approx(baseline.validation)
    assert list(tmp_path.glob("features-*.npz"))


def test_a_frozen_network_sees_each_image_once(source, tmp_path, monkeypatch):
    for module in ("network", "baseline"):
        monkeypatch.setattr(f"training.classification.{module}.load_backbone", untrained)
    seen = []
    real = Transfer.features
    monkeypatch.setattr(Transfer, "features", lambda self, pixels: seen.append(len(pixels)) or real(self, pixels))
    monkeypatch.setattr(recipe.ClassificationRecipe, "drafts", lambda *_: seen.append("trained"))
    monkeypatch.setattr("training.train.deliver", lambda *_: None)
    options = ["--freeze", "--network-size", 32, "--epochs", 3, "--batch-size", 10, "--device", "cpu"]
    run(*options, "--data", source, "--run-dir", tmp_path)
    # 30 training images, also mirrored, and the selection half of as many for validation; one to try the network.
    assert sum(seen[: seen.index("trained")]) == 2 * 30 + 15


def test_small_images_have_a_baseline_of_pixels(first):
    baseline = read_manifest(first[0] / "export").baseline
    assert baseline.name == "logistic regression on pixels"
    assert baseline.test > 0.9
