import io
import json

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from service.inference.manifest import MODEL
from service.inference.session import Session
from service.tasks.detection.manifest import DetectorManifest
from service.tasks.registry import read_manifest
from tests.training.detection.conftest import write_parquet
from training.detection.options import DetectionOptions
from training.detection.recipe import DetectionRecipe
from training.export import commands
from training.parser import parse
from training.published_options import EvaluateOptions
from training.train import train

TINY = ["--backbone", "test_efficientnet", "--weights", "none", "--width", 16, "--depth", 1, "--image-size", "64x96"]
TINY += ["--epochs", 2, "--batch-size", 4, "--device", "cpu"]


def run(*options):
    console = Console(file=io.StringIO(), width=200)
    train(DetectionRecipe(), parse(DetectionOptions, [str(option) for option in options], "detection"), console)
    return console.file.getvalue()


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A version that the recipe published, and its console output."""
    folder = tmp_path_factory.mktemp("detector")
    source = write_parquet(folder / "data", train=range(16), validation=range(100, 104), test=range(200, 208))
    # Two epochs of a tiny network are worse than the baseline.
    options = ["--publish", "--yes", "--keep-weights", "--no-flip", "--flip-vertical"]
    said = run(*TINY, *options, "--data", source, "--run-dir", folder / "run", "--models", folder / "models")
    return folder / "models" / "detector" / "1", said


def test_the_version_can_be_served_and_says_what_was_done(published):
    folder, said = published
    manifest = read_manifest(folder)
    assert isinstance(manifest, DetectorManifest)
    assert manifest.labels == ("red", "blue")
    assert (manifest.image.height, manifest.image.width) == (64, 96)
    assert len(manifest.curves.confidence) == 201
    assert manifest.training.settings["backbone"] == "test_efficientnet"
    augment = manifest.training.settings["augment"]
    assert (augment["flip"], augment["flip_vertical"]) == (False, True)
    assert manifest.outputs[-1].name == "unfamiliar"
    # Of the four validation images, two choose the epoch and the others calibrate, each of them once.
    used = {(use.purpose, use.part): use.items for use in manifest.history[-1].uses if use.split == "validation"}
    assert used == {
        ("choice of the epoch", "selection"): 2,
        ("p-values", "calibration"): manifest.familiarity.calibrated_on,
        ("suppression of boxes", "all"): 4,
        ("thresholds", "all"): 4,
        ("histograms for drift", "all"): 4,
    }
    assert [each.name for each in manifest.histograms] == [
        "brightness", "sharpness", "boxes", "label", "confidence", "unfamiliar"
    ]  # fmt: skip
    assert manifest.familiarity.calibrated_on == 2
    card = (folder / "report" / "README.md").read_text()
    assert card.count("No step used these items for anything that p-values depend on.") == 2
    assert (manifest.data.train, manifest.data.validation, manifest.data.test) == (16, 4, 8)
    Session(folder / MODEL, "cpu").check(folder, manifest)
    assert "published" in said
    assert f"test mAP at 0.5 {manifest.metrics.map_50:.4f}" in said


def test_the_report_shows_what_it_links_and_the_trade_off_in_its_own_numbers(published):
    folder, _ = published
    report = (folder / "report" / "README.md").read_text()
    plots = {f"{name}.png" for name in ("learning-curves", "thresholds", "precision-recall", "confusion")}
    photographs = {f"{name}.jpg" for name in ("samples", "augmented", "overlap")}
    assert {path.name for path in (folder / "report").iterdir()} == {*plots, *photographs, "README.md", "record.json"}
    for name in plots | photographs:
        assert f"({name})" in report
        with Image.open(folder / "report" / name) as picture:
            assert min(picture.size) > 200
    curves = read_manifest(folder).curves
    at = int(np.argmax(curves.overall.f1))
    assert (
        f"| {curves.confidence[at]:g} | {curves.overall.precision[at]:.4f} | {curves.overall.recall[at]:.4f} |"
        in report
    )


def test_the_version_is_measured_anew_without_training(published, tmp_path):
    folder, _ = published
    models = folder.parent.parent
    given = ["detector", "--data", str(models.parent / "data"), "--models", str(models), "--renew"]
    commands.evaluate(parse(EvaluateOptions, given, "evaluate"), Console(file=io.StringIO(), width=200))
    again, before = folder.parent / "2", read_manifest(folder)
    manifest = read_manifest(again)
    assert (again / MODEL).read_bytes() == (folder / MODEL).read_bytes()
    assert (manifest.metrics.map, manifest.metrics.validation_map) == pytest.approx(
        (before.metrics.map, before.metrics.validation_map), abs=1e-3
    )
    for part in ("curves", "test_curves"):
        recall = [getattr(card, part).overall.recall for card in (manifest, before)]
        np.testing.assert_allclose(*recall, atol=0.02)
    assert {path.name for path in (again / "report").iterdir()} == {path.name for path in (folder / "report").iterdir()}


def test_without_publishing_a_draft_lies_in_the_run(published, tmp_path, monkeypatch):
    """It starts from a version that kept its weights, and ends half of the way from there."""
    monkeypatch.setattr("training.engine.interpolate.WEIGHTS", (0.5,))
    source = write_parquet(tmp_path / "data", train=range(8), validation=range(100, 103), test=range(200, 203))
    options = ["--data", source, "--run-dir", tmp_path / "run", "--models", tmp_path / "models"]
    run(*TINY, *options, "--init-from", published[0], "--interpolate")
    assert not (tmp_path / "models").exists()
    manifest = json.loads((tmp_path / "run" / "export" / "manifest.json").read_text())
    settings = manifest["training"]["settings"]
    assert manifest["task"] == "detection"
    assert (settings["start_from"], settings["interpolated"]) == ("detector/1", 0.5)


@pytest.mark.parametrize(("option", "value"), [("--image-size", "60"), ("--scale", "1"), ("--bad", "keep")])
def test_invalid_options_are_refused(option, value, capsys):
    with pytest.raises(SystemExit):
        parse(DetectionOptions, [option, value], "detection")
    assert option in capsys.readouterr().err
