import json
import re
import shlex
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest

from service.inference.manifest import MODEL
from service.inference.session import Session
from service.inference.variants import graphs
from service.tasks.registry import read_manifest
from training.__main__ import main
from training.classification.learner import Classification
from training.classification.recipe import ClassificationEvaluator
from training.data.images import load_images
from training.export import evaluator as evaluation
from training.export import quantize
from training.export.calibration import Scaling, logits_of

ARCHITECTURES = {
    "cnn": ["--widths", "8,8", "--depth", "2", "--lr", "0.2"],
    "mlp": ["--lr", "0.05"],
    "transfer": ["--freeze", "--network-size", "32", "--lr", "0.02"],
}
NAMES = {"cnn": "classifier", "mlp": "classifier-mlp", "transfer": "classifier-transfer"}


@pytest.fixture(scope="module")
def source(write_class_folders, draw, tmp_path_factory):
    splits = {name: draw(count, seed=count) for name, count in (("train", 40), ("test", 12))}
    folder = tmp_path_factory.mktemp("data") / "colours"
    return write_class_folders(folder, **{name: (split.images, split.labels) for name, split in splits.items()})


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("training")


def command(arch, source, folder, *more):
    return [
        "classification", "--arch", arch, *ARCHITECTURES[arch], "--data", source, "--epochs", "3", "--batch-size", "10",
        "--device", "cpu", "--run-dir", str(folder / arch), "--models", str(folder / "models"), "--yes", *more,
    ]  # fmt: skip


@pytest.fixture(scope="module", params=ARCHITECTURES)
def published(request, source, folder, forget_accelerator):
    """The published version of each architecture."""
    forget_accelerator()
    assert main(command(request.param, source, folder, "--publish")) == 0
    return folder / "models" / NAMES[request.param] / "1"


def test_published_manifest_loads_and_the_session_replays_its_golden_file(published):
    manifest = read_manifest(published)
    assert manifest.name == published.parent.name
    # A p-value moves in steps of one held-out item, and has a tolerance of its own.
    most = max(manifest.golden.atol, *manifest.golden.tolerances.values())
    assert Session(published / MODEL, "cpu").check(published, manifest) <= most
    assert manifest.training.epochs_run == 3
    assert (manifest.data.train, manifest.data.validation, manifest.data.test) == (90, 30, 36)


def test_published_graph_answers_as_well_as_the_manifest_says(published, source):
    manifest, data = read_manifest(published), load_images(source)
    assert manifest.data.fingerprint == data.fingerprint
    probabilities, _ = Session(published / MODEL, "cpu").run({"images": data.test.images})
    np.testing.assert_allclose(probabilities.sum(1), 1, atol=1e-5)
    assert (probabilities.argmax(1) == data.test.labels).mean() == pytest.approx(manifest.metrics.accuracy)
    assert manifest.metrics.accuracy > 0.8


def test_report_shows_only_plots_that_exist(published):
    report = published / "report"
    plots = re.findall(r"!\[[^]]*\]\(([^)]+)\)", (report / "README.md").read_text())
    assert sorted(plots) == sorted(path.name for path in report.glob("*.png"))
    # A network without mistakes on the test split has no plot of them.
    assert {"learning-curves.png", "calibration.png", "conformal.png", "confusion.png"} <= set(plots)


def test_published_folder_names_no_path_of_this_machine(published, folder):
    for path in published.rglob("*"):
        if path.is_file():
            assert str(folder.parent).encode() not in path.read_bytes(), path.name


@pytest.fixture
def first_run(folder, source, forget_accelerator):
    if not (folder / "models" / "classifier" / "1").exists():
        assert main(command("cnn", source, folder, "--publish")) == 0
        forget_accelerator()
    return folder / "models" / "classifier" / "1"


def test_resuming_a_finished_run_publishes_nothing_new(first_run, source, folder, capsys):
    assert main(command("cnn", source, folder, "--publish", "--resume")) == 0
    said = capsys.readouterr().out
    assert "Resuming after epoch 3 of 3" in said
    assert "already published as classifier/1" in said
    assert [path.name for path in first_run.parent.iterdir()] == ["1"]
    first, draft = read_manifest(first_run), read_manifest(folder / "cnn" / "export")
    for part in ("metrics", "calibration", "conformal", "data", "labels"):
        assert getattr(first, part) == getattr(draft, part)


def test_a_published_version_is_measured_anew_without_training(first_run, source, folder, capsys):
    models = ["--models", str(folder / "models")]
    assert main(["evaluate", "classifier/1", "--data", source, *models, "--renew"]) == 0
    version = max(first_run.parent.iterdir(), key=lambda path: int(path.name))
    assert "published " in capsys.readouterr().out
    first, again = read_manifest(first_run), read_manifest(version)
    assert (version / MODEL).read_bytes() == (first_run / MODEL).read_bytes()
    assert again.metrics.accuracy == first.metrics.accuracy
    assert again.calibration.temperature == first.calibration.temperature
    np.testing.assert_allclose(
        [p.threshold for p in again.conformal], [p.threshold for p in first.conformal], atol=1e-5
    )
    assert again.intervals["accuracy"] == first.intervals["accuracy"]
    card, before = ((path / "report" / "README.md").read_text() for path in (version, first_run))
    for section in ("## Training", "## Cost", "## Provenance"):
        assert section in card
        assert card.partition(section)[2].partition("\n## ")[0] == before.partition(section)[2].partition("\n## ")[0]


def test_calibration_of_a_published_version_and_its_variant_is_fitted_anew(
    first_run, source, folder, monkeypatch, tmp_path
):
    first = tmp_path / "classifier" / "1"
    shutil.copytree(first_run, first)
    described = json.loads((first / "manifest.json").read_text())
    del described["data"]["division"]  # as in versions from before it was recorded
    (first / "manifest.json").write_text(json.dumps(described))
    options = ["--data", source, "--models", str(tmp_path)]
    monkeypatch.setattr(quantize, "FASTER", 0.0)
    monkeypatch.setattr(ClassificationEvaluator, "max_drop", 1.0)
    assert main(["quantize", "classifier", *options, "--method", "int8"]) == 0
    monkeypatch.setattr(evaluation, "fit_scaling", lambda *_: Scaling(1.3, 1.6))
    assert main(["evaluate", "classifier", *options, "--calibrate"]) == 0
    images = load_images(source).test.images
    before, after = (read_manifest(tmp_path / "classifier" / version) for version in "23")
    for name in ("reference", "int8"):
        old, new = (graphs(manifest, name, "cpu")[0][0] for manifest in (before, after))
        assert (new.manifest.calibration.temperature, new.manifest.calibration.exponent) == (1.3, 1.6)
        assert new.manifest.metrics.accuracy == old.manifest.metrics.accuracy
        assert new.manifest.conformal != old.manifest.conformal
        was, found = (
            Session(tmp_path / "classifier" / version / graph.file, "cpu").run({"images": images})
            for version, graph in (("2", old), ("3", new))
        )
        # The temperature that was there is no more.
        logits = logits_of(was[0]) * old.manifest.calibration.temperature
        np.testing.assert_allclose(found[0], Scaling(1.3, 1.6).probabilities(logits), atol=1e-4)
        np.testing.assert_array_equal(found[1], was[1])
        Session(tmp_path / "classifier" / "3" / new.file, "cpu").check(tmp_path / "classifier" / "3", new.manifest)
    card = (tmp_path / "classifier" / "3" / "report" / "README.md").read_text()
    assert "to the power 1.600, which makes high confidences higher" in card
    assert "`int8` has a calibration of its own" in card
    assert main(["evaluate", "classifier", *options, "--renew"]) == 0
    again = read_manifest(tmp_path / "classifier" / "4")
    assert [step.kind for step in again.history] == ["train", "quantize", "evaluate", "evaluate"]
    assert again.history[
        2
    ].command == f"python -m training evaluate classifier --data {Path(source).name} --models " + (
        f"{tmp_path.name} --calibrate"
    )
    purposes = [[use.purpose for use in step.uses] for step in again.history[1:]]
    assert purposes[0][:2] == ["activation ranges", "choice of variants"]
    assert purposes[1:] == [
        ["temperature", "label sets", "figures", "histograms for drift"],
        ["label sets", "figures", "histograms for drift"],
    ]
    card = (tmp_path / "classifier" / "4" / "report" / "README.md").read_text()
    assert "evaluated 4 times: in steps 1, 2, 3 and 4." in card
    halves = {use.partition for step in again.history for use in step.uses if use.part != "all"}
    assert halves == {again.data.division}
    assert again.conformal == after.conformal
    assert again.variants == after.variants


def test_the_draft_of_a_finished_run_is_published_later(source, folder, tmp_path, capsys, forget_accelerator):
    forget_accelerator()
    assert main(command("mlp", source, tmp_path)) == 0
    assert f"`quartet publish {tmp_path / 'mlp'}` publishes it" in "".join(capsys.readouterr().out.splitlines())
    assert main(["publish", str(tmp_path / "mlp"), "--models", str(tmp_path / "models")], prog="quartet") == 0
    assert f"published {tmp_path / 'models' / 'classifier-mlp' / '1'}" in capsys.readouterr().out
    version = tmp_path / "models" / "classifier-mlp" / "1"
    assert Session(version / MODEL, "cpu").check(version, read_manifest(version)) <= read_manifest(version).golden.atol


def test_other_data_than_a_version_was_trained_on_are_refused(first_run, draw, write_class_folders, tmp_path, capsys):
    other = draw(20, seed=99)
    source = write_class_folders(tmp_path / "other", _=(other.images, other.labels))
    assert (
        main(["evaluate", "classifier/1", "--data", source, "--models", str(first_run.parent.parent), "--renew"]) == 1
    )
    assert_one_line(capsys.readouterr().err, "is not what classifier was trained on")
    assert main(["evaluate", "nothing", "--data", source, "--models", str(first_run.parent.parent)]) == 2
    assert_one_line(capsys.readouterr().err, "holds no model nothing; it holds classifier")


def test_resuming_with_another_network_prints_one_line(first_run, source, folder, capsys):
    assert main([*command("cnn", source, folder, "--resume"), "--widths", "4,8"]) == 1
    assert_one_line(capsys.readouterr().err)


def test_ctrl_c_publishes_nothing_and_says_how_to_go_on(source, tmp_path, capsys, monkeypatch, forget_accelerator):
    def interrupted(self, *arguments):
        steps.append(1)
        if len(steps) == 13:
            signal.raise_signal(signal.SIGINT)
        return loss(self, *arguments)

    steps, loss = [], Classification.loss
    with monkeypatch.context() as patch:
        patch.setattr(Classification, "loss", interrupted)
        arguments = [*command("mlp", source, tmp_path, "--publish"), "--data-name", "a name"]
        assert main(arguments) == 130
    said = capsys.readouterr().err
    assert "stopped in epoch 2 of 3, after 4 of its 9 steps; nothing was published" in said
    assert not (tmp_path / "models").exists()
    again = shlex.split(said.partition("python -m training ")[2])
    assert again == [*arguments, "--resume"]
    assert main(["publish", str(tmp_path / "mlp")]) == 1
    said = capsys.readouterr().err
    assert "nothing to publish, its training was stopped in epoch 2 of 3. To go on with it: python -m training" in said
    assert shlex.split(said.partition("To go on with it: python -m training ")[2]) == again
    forget_accelerator()
    assert main(again) == 0
    assert read_manifest(tmp_path / "models" / "classifier-mlp" / "1").training.epochs_run == 3


@pytest.mark.parametrize(
    ("error", "first_line"),
    [(IndexError("out of range"), "Traceback (most recent call last):"), (ValueError("no"), "error: no")],
)
def test_a_failure_after_the_training_says_how_to_go_on_without_training_again(
    source, tmp_path, capsys, monkeypatch, forget_accelerator, error, first_line
):
    def fail(*_, **__):
        raise error

    arguments = command("mlp", source, tmp_path, "--publish", "--data-name", "a name")
    with monkeypatch.context() as patch:
        patch.setattr("training.classification.recipe.write_golden", fail)
        assert main(arguments) == 1
    said = capsys.readouterr().err
    assert said.splitlines()[0] == first_line
    assert f"The training itself is complete, and {tmp_path / 'mlp' / 'checkpoint.pt'} keeps its weights" in said
    assert not (tmp_path / "models").exists()
    again = shlex.split(said.rpartition("python -m training ")[2])
    assert again == ["publish", str(tmp_path / "mlp")]
    forget_accelerator()
    monkeypatch.setattr(Classification, "loss", lambda *_: pytest.fail("trained again"))
    assert main(again) == 0
    assert read_manifest(tmp_path / "models" / "classifier-mlp" / "1").training.epochs_run == 3


def test_a_class_that_the_test_split_lacks_is_named_and_all_else_goes_on(write_class_folders, draw, tmp_path, capsys):
    train, test = draw(20, seed=1), draw(10, seed=2)
    splits = {"train": train, "validation": test.take(np.arange(10, 30)), "test": test.take(np.arange(20))}
    folders = {name: (split.images, split.labels) for name, split in splits.items()}
    source = write_class_folders(tmp_path / "data", **folders)
    assert main(command("mlp", source, tmp_path, "--publish")) == 0
    said = capsys.readouterr().out
    assert "The validation split has nothing of blue: it says nothing about them." in said
    assert "The test split has nothing of red" in said
    metrics = read_manifest(tmp_path / "models" / "classifier-mlp" / "1").metrics
    assert metrics.per_class[2].support == 0


def assert_one_line(message, about=""):
    assert message.startswith("error: ")
    assert message.count("\n") == 1
    assert about in message


def test_wrong_path_prints_one_line(capsys, tmp_path):
    missing = str(tmp_path / "nothing")
    assert main(["classification", "--data", missing, "--run-dir", str(tmp_path / "run")]) == 1
    assert_one_line(capsys.readouterr().err, f"{missing}: no such folder")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("options", "about"),
    [
        (["--arch", "cnn", "--widths", "8,8,8,8"], "too small"),
        (
            ["--arch", "transfer", "--backbone", "vgg16"],
            "Packages hold those of tf_efficientnet_lite0, ",
        ),
        (["--arch", "transfer", "--weights", "no/such.pth"], "no such file of weights"),
        (["--arch", "cnn", "--widths", "8,8", "--name", "a name with spaces"], "name"),
        (["--arch", "mlp", "--lr", "1e30", "--epochs", "2"], "lower --lr"),
    ],
)
def test_setting_that_cannot_be_used_prints_one_line_and_trains_nothing(capsys, source, tmp_path, options, about):
    arguments = ["classification", "--data", source, "--device", "cpu", "--batch-size", "10", "--epochs", "1"]
    assert main([*arguments, "--run-dir", str(tmp_path / "run"), *options]) == 1
    assert_one_line(capsys.readouterr().err, about)
    assert not (tmp_path / "run" / "checkpoint.pt").exists()


def test_unknown_recipe_and_unknown_option_are_refused_by_the_parser(capsys):
    both = ["quantize", "classifier", "--data", "x", "--force", "--candidate"]
    for arguments in (["poem"], ["classification", "--no-such-option"], ["classifier"], both, []):
        with pytest.raises(SystemExit) as exit_:
            main(arguments)
        assert exit_.value.code == 2
        assert_one_line(capsys.readouterr().err, "python -m training")
