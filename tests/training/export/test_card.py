import pytest

from service.inference.cards import Step, Use
from service.inference.manifest import MANIFEST
from service.tasks.cards import FamiliarityCard
from service.tasks.registry import read_manifest
from tests.server import ROOT
from training.__main__ import main
from training.export import history
from training.export.card import render
from training.report.familiarity_section import familiarity_section
from training.report.history_section import history_section

CARD = """# colours

## Training

Old sentences about a split.

![Learning curves](learning-curves.png)

| setting | value |
|---|---|
| seed | `0` |

## What it does not know

Old sentences.

## Provenance

here
"""


@pytest.fixture
def models(publish_colours):
    return publish_colours(CARD)


def test_a_card_is_rendered_again_from_its_manifest(models, capsys):
    folder = models / "colours" / "1"
    manifest = read_manifest(folder)
    step = Step(kind="evaluate", uses=(Use(split="test", purpose=history.FIGURES, items=36),))
    (folder / MANIFEST).write_text(history.with_step(manifest, step).model_dump_json())
    assert main(["card", "colours", "--models", str(models)]) == 0
    assert "rendered " in capsys.readouterr().out
    card = (folder / "report" / "README.md").read_text()
    assert "Old sentences about a split" not in card
    assert "`python -m training classification`: 2 epochs in 1 seconds" in card
    assert "was evaluated in step 2. Whether step 1 evaluated" in card
    assert card.count("## History") == 1
    assert "![Learning curves](learning-curves.png)\n\n| setting | value |\n|---|---|\n| seed | `0` |" in card
    assert card.endswith("## Provenance\n\nhere\n")
    assert main(["card", "colours", "--models", str(models)]) == 0
    assert (folder / "report" / "README.md").read_text() == card


def test_what_a_model_does_not_know_is_rendered_too(models, make_manifest):
    folder = models / "colours" / "1"
    familiarity = FamiliarityCard(method="a distance", calibrated_on=15, test_below={"0.01": 0.0})
    render(folder, make_manifest().model_copy(update={"familiarity": familiarity}))
    card = (folder / "report" / "README.md").read_text()
    assert "Old sentences." not in card
    assert "a distance; the p-value is the share of the 15 calibration items" in card
    assert "What else these items were used for was not recorded." in card


@pytest.mark.parametrize("folder", sorted((ROOT / "models").glob("*/1")), ids=lambda folder: folder.parent.name)
def test_committed_cards_say_what_their_manifests_record(folder):
    manifest = read_manifest(folder)
    assert manifest.history
    card = (folder / "report" / "README.md").read_text()
    assert "\n\n".join(history_section(manifest)) in card
    if familiarity := getattr(manifest, "familiarity", None):
        assert "\n\n".join(familiarity_section(manifest, familiarity)) in card
