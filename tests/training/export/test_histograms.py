"""The command that adds histograms of validation."""

import pytest

from service.inference.manifest import MANIFEST
from service.tasks.registry import read_manifest
from training.__main__ import main


@pytest.fixture
def models(publish_colours):
    return publish_colours()


def command(name, colours_source, models, *more):
    return [name, "colours", "--data", colours_source, "--models", str(models), *more]


def test_a_version_gets_histograms_and_keeps_them_up_to_date(models, colours_source, capsys):
    assert main(command("drift", colours_source, models)) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "histograms of 30 validation items: brightness, sharpness, label, confidence" in said
    folder = models / "colours" / "2"
    manifest, before = read_manifest(folder), read_manifest(models / "colours" / "1")
    assert before.histograms == ()
    assert [(each.part, each.name) for each in manifest.histograms] == [
        ("input", "brightness"), ("input", "sharpness"), ("answer", "label"), ("answer", "confidence")
    ]  # fmt: skip
    assert all(sum(each.counts) == 30 for each in manifest.histograms)
    assert manifest.histograms[2].categories == manifest.labels
    # Half of 30 items may be elsewhere by chance.
    assert manifest.histograms[0].threshold > 0.3
    assert manifest.files == before.files
    step = manifest.history[-1]
    assert (step.kind, [(use.split, use.purpose, use.items) for use in step.uses]) == (
        "drift", [("validation", "histograms for drift", 30)]
    )  # fmt: skip
    assert "| validation | all | 30 of 30 | histograms for drift | 2 |" in (folder / "report/README.md").read_text()

    assert main(command("ood", colours_source, models)) == 0
    latest = read_manifest(models / "colours" / "3")
    assert latest.histograms[:4] == manifest.histograms
    assert latest.histograms[4].categories == ("typical", "unfamiliar")
    assert main(command("evaluate", colours_source, models, "--renew")) == 0
    assert read_manifest(models / "colours" / "4").histograms == latest.histograms


def test_a_version_without_histograms_is_written_without_the_field(models):
    assert "histograms" not in (models / "colours" / "1" / MANIFEST).read_text()
