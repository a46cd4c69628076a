import json
import re

import pytest

from service.inference.cards import AddedCard, GoldenCard, Kept, Speed
from service.tasks.cards import ClassifierVariant, FamiliarityCard, ForeignFigures
from service.tasks.registry import read_manifest
from tests.server import ROOT
from training.report.card import CARD, render_card
from training.report.record import REPORT, read_record, update_record

COMMITTED = sorted((ROOT / "models").glob("*/1"))


@pytest.fixture
def rendered(tmp_path):
    def render(manifest):
        render_card(tmp_path, manifest)
        return (tmp_path / CARD).read_text()

    return render


def test_fields_of_a_record_are_merged(tmp_path):
    assert read_record(tmp_path) == {}
    update_record(tmp_path, first=1, second=[0.5])
    update_record(tmp_path, second="ü", third=None)
    assert read_record(tmp_path) == {"first": 1, "second": "ü", "third": None}
    assert "ü" in (tmp_path / REPORT / "record.json").read_text(encoding="utf-8")


def test_a_version_without_a_record_has_a_card(rendered, make_manifest):
    text = rendered(make_manifest())
    assert text.startswith("# ")
    assert "**Test accuracy " in text
    assert "](" not in text  # there are no pictures
    assert "differs from PyTorch" not in text
    assert "\n\n\n" not in text


def test_captured_items_are_stated(rendered, make_manifest):
    manifest = make_manifest()
    added = AddedCard(items=7, repeated=2, unusable=1)
    text = rendered(manifest.model_copy(update={"data": manifest.data.model_copy(update={"added": added})}))
    assert ", 7 were captured while a version of the model served" in text
    assert "Left out were 2 that a split of the data has already, and 1 that do not fit" in text
    assert "were captured" not in rendered(manifest)
    assert "\n\n\n" not in text


def test_a_task_without_a_template_has_the_common_sections(rendered, make_manifest):
    manifest = make_manifest().model_copy(update={"task": "toy"})
    text = rendered(manifest)
    assert "- accuracy: **" in text
    assert [line for line in text.splitlines() if line.startswith("## ")] == [
        "## Training", "## History", "## Provenance",
    ]  # fmt: skip


def test_the_record_fills_in_what_the_manifest_does_not_say(rendered, make_manifest, tmp_path):
    update_record(tmp_path, onnx_difference="2e-06", cost={"alone": 1.6158, "batched": 50.5})
    study = {"title": "A study", "method": "How.", "header": ["a", "b"], "rows": [["1", "2"]], "result": "So."}
    update_record(tmp_path, studies=[study])
    text = rendered(make_manifest())
    assert "differs from PyTorch by at most 2e-06 at batches of 1, 2, 7 and 16." in text
    assert "| 1 | 1 second | 1.62 | 50.5 |" in text
    assert "## A study\n\nHow.\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\nSo.\n\n## Training" in text


def test_out_of_distribution_detection(rendered, make_manifest):
    card = FamiliarityCard(
        method="a distance",
        calibrated_on=15,
        test_below={"0.01": 0.0, "0.1": 0.125},
        foreign=(ForeignFigures(data="noise", items=12, auroc=0.9, false_alarms=0.25, caught=1),),
    )
    text = rendered(make_manifest().model_copy(update={"familiarity": card}))
    assert "Its score is a distance; the p-value is the fraction of the 15 calibration items" in text
    assert "is 0.062. What else these items were used for was not recorded." in text
    assert "| 0.1 | 12.5% | – |" in text
    assert "TPR at p < 0.1 |" in text
    assert "| noise | 12 | 0.900 | 25.0% | 100.0% |" in text
    assert "cross-fitted fraction" not in text


def test_variants_that_were_kept_and_rejected(rendered, make_manifest, tmp_path):
    manifest = make_manifest()
    variant = ClassifierVariant(
        name="int8",
        file="int8.onnx",
        device="cpu",
        method="eight bits",
        golden=GoldenCard(rows=2, chosen_from=4, atol=0.1),
        size=2_000_000,
        validation=Kept(figure="accuracy", value=0.75, reference=0.8),
        speed=(Speed(device="cpu", machine="a CPU", threads=1, batch=8, items_per_second=30, reference=10),),
        metrics=manifest.metrics,
        calibration=manifest.calibration,
        conformal=manifest.conformal,
    )
    rejected = {"name": "float16", "device": "cuda", "method": "half", "validation": 0.7, "size": 3e6}
    update_record(tmp_path, rejected_variants=[rejected | {"speedups": [], "reason": "validation accuracy falls"}])
    text = rendered(manifest.model_copy(update={"variants": (variant,)}))
    accuracy = f"{manifest.metrics.accuracy:.4f}"
    assert "Measured on a CPU with 1 thread." in text
    assert "| speedup at batches of 8 | |" in text
    assert f"| reference | any | 0.8000 | {accuracy} | – | 1 | |" in text
    assert f"| int8 | cpu | 0.7500 | {accuracy} | 2.0 | 3.0 | kept |" in text
    assert "| float16 | cuda | 0.7000 | – | 3.0 | – | validation accuracy falls |" in text
    assert "- int8: eight bits. Its golden file has 2 of 4 inputs" in text
    assert "`int8` has a calibration of its own" in text


def test_coverage_below_the_expected_range_is_pointed_out(rendered, make_manifest):
    manifest = make_manifest()
    points = [p.model_copy(update={"expected": (0.0, 1.0)}) for p in manifest.conformal]
    assert "nowhere below the expected range" in rendered(manifest.model_copy(update={"conformal": tuple(points)}))
    points[-1] = points[-1].model_copy(update={"test_coverage": 0.5, "expected": (0.9, 1.0)})
    text = rendered(manifest.model_copy(update={"conformal": tuple(points)}))
    assert f"At {points[-1].coverage:.2f} the coverage on test is below the expected range" in text
    points[-1] = points[-1].model_copy(update={"expected": None})
    assert "was not recorded." in rendered(manifest.model_copy(update={"conformal": tuple(points)}))


@pytest.mark.parametrize("folder", COMMITTED, ids=lambda folder: folder.parent.name)
def test_committed_cards_are_rendered_from_their_manifests_and_records(folder, rendered, tmp_path):
    manifest, committed = read_manifest(folder), (folder / CARD).read_text()
    (tmp_path / REPORT).mkdir()
    for path in (folder / REPORT).iterdir():
        (tmp_path / REPORT / path.name).symlink_to(path)
    (tmp_path / REPORT / "README.md").unlink()
    (tmp_path / "model.onnx").symlink_to(folder / "model.onnx")
    assert rendered(manifest) == committed
    assert manifest.history
    pictures = {path.name for path in (folder / REPORT).iterdir() if path.suffix in (".png", ".jpg")}
    assert set(re.findall(r"!\[[^]]*\]\(([^)]+)\)", committed)) == pictures
    json.loads((folder / REPORT / "record.json").read_text())
