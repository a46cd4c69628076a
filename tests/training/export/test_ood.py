import json

import numpy as np
import pytest

from service.inference.cards import Step, Use
from service.inference.manifest import GOLDEN, MANIFEST, MODEL
from service.inference.session import Session
from service.inference.variants import graphs
from service.policy.file import read_policy
from service.tasks.registry import read_manifest
from training.__main__ import main
from training.classification.recipe import ClassificationEvaluator
from training.data.dataset import DataError
from training.data.foreign import made_up_rows, read_images, read_lines
from training.export import history, ood, quantize


@pytest.fixture
def models(publish_colours):
    return publish_colours()


def command(name, colours_source, models, *more):
    return [name, "colours", "--data", colours_source, "--models", str(models), *more]


def test_a_version_that_tells_and_its_variants(
    models, colours_source, write_class_folders, draw, monkeypatch, tmp_path, capsys
):
    split = draw(4, size=30, seed=7)
    other = write_class_folders(tmp_path / "other", _=(split.images, split.labels))
    foreign = ["--foreign", f"others={other}", "--foreign", f"cut={'crops:' + other}"]
    assert main(command("ood", colours_source, models, *foreign)) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "inputs of another kind: noise (100%)" in said
    folder = models / "colours" / "2"
    manifest, before = read_manifest(folder), read_manifest(models / "colours" / "1")
    assert [spec.name for spec in manifest.outputs] == ["probabilities", "unfamiliar"]
    assert manifest.metrics == before.metrics
    card = manifest.familiarity
    assert card.calibrated_on == 15  # half of validation
    assert card.smallest == 1 / 16
    assert card.level == 0.1
    assert card.test_below.keys() == card.cross_fitted_below.keys() == {"0.01", "0.05", "0.1"}
    assert card.method_chosen_on
    assert [(each.data, each.items) for each in card.foreign] == [
        ("noise", 1000), ("smooth colours", 1000), ("others", 12), ("cut", 48)
    ]  # fmt: skip
    # Brightness alone is nothing that these colours have in common with noise.
    assert card.foreign[0].auroc > 0.8
    Session(folder / MODEL, "cpu").check(folder, manifest)
    with np.load(folder / GOLDEN) as golden:
        assert golden["unfamiliar"].shape == (4,)
        assert ((golden["unfamiliar"] >= 1 / 16) & (golden["unfamiliar"] <= 1)).all()
    report = (folder / "report" / "README.md").read_text()
    assert "| others | 12 |" in report
    assert "TPR at p < 0.1" in report
    assert "The smallest p-value that so many items can produce is 0.062." in report
    # What its training used them for was not recorded, so nothing is claimed.
    assert "fitted the p-values on 15 validation items. Whether step 1 used these items was not recorded." in report

    options = ["--method", "int8", "--candidate"]
    monkeypatch.setattr(quantize, "FASTER", 0.0)
    monkeypatch.setattr(ClassificationEvaluator, "max_drop", 1.0)
    assert main(command("quantize", colours_source, models, *options)) == 0
    assert "published as `candidate`, and colours/2 stays the default: accuracy" in capsys.readouterr().out
    assert main(command("ood", colours_source, models, "--candidate")) == 0
    assert "colours/4 is published as `candidate`" in capsys.readouterr().out
    policy = read_policy(models / "colours" / "serving.toml")
    assert (policy.default, policy.aliases) == ("2", {"candidate": "4"})
    for version in ("3", "4"):
        folder = models / "colours" / version
        manifest = read_manifest(folder)
        (graph, _), _ = graphs(manifest, "int8", "cpu")
        assert graph.manifest.familiarity.calibrated_on == 15
        assert "unfamiliar" in graph.manifest.golden.tolerances
        Session(folder / "int8.onnx", "cpu").check(folder, graph.manifest)
        Session(folder / MODEL, "cpu").check(folder, manifest)
        report = (folder / "report" / "README.md").read_text()
        assert report.count("## Out-of-distribution detection") == 1
        assert report.count("## Variants") == report.count("## Provenance") == 1
    assert [step.kind for step in manifest.history] == ["train", "ood", "quantize", "ood"]
    assert [use.purpose for use in manifest.history[-1].uses] == ["distances for p-values", "p-values", "figures"]
    assert manifest.history[0].uses is None  # it was published without a record
    assert "| validation | calibration | 15 of 30 | p-values | 2, 3, 4 |" in report


def test_what_cannot_be_used(models, colours_source, tmp_path, capsys):
    assert main(command("ood", colours_source, models, "--foreign", "others")) == 1
    assert "give NAME=DATA" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    assert main(command("ood", colours_source, models, "--foreign", f"others={tmp_path / 'empty'}")) == 1
    assert "empty" in capsys.readouterr().err
    assert [path.name for path in (models / "colours").iterdir()] == ["1"]
    (tmp_path / "blank.txt").write_text("\n\n")
    with pytest.raises(DataError, match="holds no text"):
        read_lines(str(tmp_path / "blank.txt"))


def test_kernels_that_differ_too_much_for_a_golden_file(models, colours_source, monkeypatch, capsys):
    monkeypatch.setattr(ood, "kernel_ratios", lambda *_: {"unfamiliar": 0.3})
    assert main(command("ood", colours_source, models)) == 1
    assert "its unfamiliar may be off by 0.6 from one kernel to another" in " ".join(capsys.readouterr().err.split())
    assert [path.name for path in (models / "colours").iterdir()] == ["1"]


@pytest.mark.parametrize("name", ["ood", "quantize"])
def test_a_version_whose_validation_was_divided_otherwise_is_refused(name, models, colours_source, capsys):
    path = models / "colours" / "1" / MANIFEST
    manifest = json.loads(path.read_text())
    manifest["data"]["division"] = "sha256:0"
    path.write_text(json.dumps(manifest))
    assert main(command(name, colours_source, models)) == 1
    assert "its validation split was divided differently" in " ".join(capsys.readouterr().err.split())


def test_the_division_is_also_known_from_the_history(models, colours_source, capsys):
    path = models / "colours" / "1" / MANIFEST
    chosen = Use(split="validation", purpose=history.EPOCH, items=15, part=history.SELECTION, partition="sha256:0")
    manifest = read_manifest(path.parent).model_copy(update={"history": (Step(kind=history.TRAIN, uses=(chosen,)),)})
    path.write_text(manifest.model_dump_json())
    assert main(command("ood", colours_source, models)) == 1
    assert "its validation split was divided differently" in " ".join(capsys.readouterr().err.split())


def test_a_card_says_that_all_of_validation_chose_the_epoch(models, colours_source):
    path = models / "colours" / "1" / MANIFEST
    chosen = Use(split="validation", purpose=history.EPOCH, items=30)
    manifest = read_manifest(path.parent).model_copy(update={"history": (Step(kind=history.TRAIN, uses=(chosen,)),)})
    path.write_text(manifest.model_dump_json())
    assert main(command("ood", colours_source, models)) == 0
    report = (models / "colours" / "2" / "report" / "README.md").read_text()
    _, _, section = report.partition("## Out-of-distribution detection")
    assert (
        "Step 2 fitted the p-values on 15 validation items, some or all of which also determined: choice of the epoch "
        "(step 1). The p-values may hold less well for new items." in section.partition("## History")[0]
    )
    assert "No step used these items" not in report


def test_a_version_without_a_recorded_division_is_refused_if_a_part_of_validation_chose_its_epoch(
    models, colours_source, capsys
):
    path = models / "colours" / "1" / MANIFEST
    manifest = json.loads(path.read_text())
    manifest["training"]["chosen_on"] = 15
    path.write_text(json.dumps(manifest))
    assert main(command("ood", colours_source, models)) == 1
    assert "its validation split was divided differently" in " ".join(capsys.readouterr().err.split())


def test_pictures_are_read_as_the_model_is_shown_them(write_class_folders, draw, tmp_path):
    split = draw(2, size=40, seed=7)
    folder = write_class_folders(tmp_path / "other", _=(split.images, split.labels))
    assert read_images(folder, (12, 12, 1)).shape == (6, 12, 12, 1)
    crops = read_images(f"crops:{folder}", (12, 12, 3))
    assert crops.shape == (24, 12, 12, 3)
    np.testing.assert_array_equal(crops, read_images(f"crops:{folder}", (12, 12, 3)))


def test_made_up_rows():
    rows = np.array([[1, 10, 0], [2, np.nan, 1], [3, 30, 0], [4, 40, 1]], np.float32)
    made = made_up_rows(rows, {0: 0.5, 1: 2.0})
    shifted, mixed, reordered = made.values()
    np.testing.assert_array_equal(np.abs(shifted - rows)[:, 0], [0.5] * 4)
    np.testing.assert_array_equal(shifted[:, 2], rows[:, 2])
    assert np.isnan(shifted[1, 1])
    np.testing.assert_array_equal(np.sort(mixed, 0), np.sort(rows, 0))
    assert sorted(reordered[0]) == [0, 1, 10]
