import json
import math
import os
import shutil
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from service.inference.manifest import GOLDEN, MODEL
from service.tasks.registry import read_manifest
from training import delivery
from training.baseline import Baseline
from training.delivery import NotPublished, completing, deliver, publish_run, remembered
from training.export.graph import write_golden
from training.export.publish import drafts_of
from training.options import Options, PublishOptions
from training.phases import FAILURES, Phases
from training.recipe import Draft
from training.report.record import read_record


@pytest.fixture
def run(console, tmp_path, colours):
    """A run on the colours whose training is over, with some options."""

    def make(*, baseline=None, **options):
        folder = tmp_path / "run"
        phases = Phases(console, folder)
        phases.seconds["baseline"] = 2.0
        publishing = PublishOptions(models=tmp_path / "models", yes=options.pop("yes", False))
        return SimpleNamespace(
            options=Options(data="colours", publishing=publishing, **options), console=console, folder=folder,
            data=colours, phases=phases, phase=phases.phase, optional=phases.optional, ask=False, estimated=10.0,
            started=0.0, baseline=baseline, cross_validate=None,
        )  # fmt: skip

    return make


@pytest.fixture
def draft(exported_cnn, colours, make_manifest):
    def write(name: str, folder: Path):
        shutil.copy(exported_cnn.path, folder / MODEL)
        write_golden(exported_cnn.graph, colours.test.images[:4], folder / GOLDEN, **exported_cnn.names)
        return make_manifest().model_copy(update={"name": name})

    return lambda name, **more: Draft(name=name, write=partial(write, name), **more)


def test_drafts_lie_in_the_run_and_versions_below_models(run, draft, tmp_path):
    deliver(run(), [draft("one")])
    assert [path.name for path in drafts_of(tmp_path / "run")] == ["export"]
    deliver(run(), [draft("two"), draft("three")])
    assert not (tmp_path / "models").exists()
    assert [path.name for path in drafts_of(tmp_path / "run")] == ["three", "two"]
    assert read_manifest(tmp_path / "run" / "export" / "two").files.keys() == {MODEL, GOLDEN}
    deliver(run(publish=True), [draft("two"), draft("three")])
    assert sorted(str(path.relative_to(tmp_path)) for path in (tmp_path / "models").glob("*/*")) == [
        "models/three/1", "models/two/1",
    ]  # fmt: skip


def test_a_failing_score_costs_the_version_only_the_score(run, draft, tmp_path, monkeypatch):
    def spoil(folder, *_):
        (folder / MODEL).write_bytes(b"half written")
        raise IndexError("no features")

    monkeypatch.setattr(delivery, "with_ood", spoil)
    deliver(run(publish=True), [draft("one", ood_data=lambda: None)])
    version = tmp_path / "models" / "one" / "1"
    assert read_manifest(version).files.keys() == {MODEL, GOLDEN}
    assert read_record(version)["failed"] == ["out-of-distribution score"]
    assert (
        "without the following parts, which failed: out-of-distribution score"
        in (version / "report" / "README.md").read_text()
    )
    assert "IndexError: no features" in (tmp_path / "run" / FAILURES).read_text()


def test_the_card_has_the_warnings_of_the_data(run, draft, tmp_path, colours, monkeypatch):
    monkeypatch.setattr(colours.inspection, "warnings", ["possible leak: the file names tell the class"])
    deliver(run(), [draft("one")])
    card = (tmp_path / "run" / "export" / "report" / "README.md").read_text()
    assert "The training warned of its data:\n\n- possible leak: the file names tell the class\n" in card


@pytest.mark.parametrize(("test", "is_published"), [(0.5, True), (1.1, False)])
def test_what_is_worse_than_its_baseline_is_published_with_yes(test, is_published, run, draft, tmp_path):
    line = Baseline(name="a line", figure="accuracy", validation=0.9, items=7, test=lambda: test)
    attempt = partial(deliver, run(publish=True, baseline=line), [draft("one")])
    if is_published:
        attempt()
    else:
        with pytest.raises(NotPublished, match=r"publish .*run --yes` publishes it nevertheless"):
            attempt()
    version = tmp_path / "models" / "one" / "1"
    assert version.exists() == is_published
    publish_run(tmp_path / "run", PublishOptions(models=tmp_path / "models", yes=True), run().console)
    (newest,) = (tmp_path / "models" / "one").glob("[0-9]")  # nothing is published twice
    assert read_manifest(newest).baseline.test == test
    assert (
        f"a line. It reaches accuracy 0.9000 on the selection half of validation and {test:.4f} on test"
        in (newest / "report" / "README.md").read_text()
    )


@pytest.mark.parametrize("program", ["quartet train", "python -m training text"])
def test_a_run_without_a_draft_is_completed_by_its_command(program, run, draft, tmp_path):
    folder = tmp_path / "run"
    options = SimpleNamespace(run=folder, models=tmp_path / "models", force=False, candidate=True, yes=False)
    assert completing(options) is None
    with remembered(folder, f"{program} 'my data' --publish"):
        pass
    with pytest.raises(
        ValueError, match=rf"did not complete an epoch. To go on with it: {program} 'my data' --publish "
    ):
        completing(options)
    torch.save({"settings": {"epochs": 2}, "state": {"epoch": 2, "improved_epoch": 1}}, folder / "checkpoint.pt")
    arguments, prog = completing(options)
    assert [prog, *arguments][1:] == [
        *program.split()[-1:], "my data", "--publish", "--resume", "--candidate", "--models", str(tmp_path / "models"),
    ]  # fmt: skip
    deliver(run(), [draft("one")])
    assert completing(options) is None


def test_a_draft_of_an_earlier_training_is_not_published(run, draft, tmp_path):
    options = SimpleNamespace(run=tmp_path / "run", models=tmp_path / "models", force=False, candidate=False, yes=False)
    with remembered(options.run, "quartet train data"):
        deliver(run(), [draft("one")])
    assert completing(options) is None
    written = (options.run / "export" / "manifest.json").stat().st_mtime
    for epoch in (1, 2):
        torch.save({"settings": {"epochs": 2}, "state": {"epoch": epoch}}, options.run / "checkpoint.pt")
        os.utime(options.run / "checkpoint.pt", (written + 1, written + 1))
        if epoch == 1:
            with pytest.raises(ValueError, match="its training was stopped in epoch 2 of 2"):
                completing(options)
        else:
            assert completing(options)[0][:4] == ["train", "data", "--resume", "--publish"]


def test_a_refused_command_does_not_replace_the_earlier_one(tmp_path):
    with remembered(tmp_path, "quartet train data"):
        pass
    with pytest.raises(ValueError, match="other settings"), remembered(tmp_path, "quartet train data --lr 2"):
        raise ValueError("other settings")
    assert json.loads((tmp_path / "command.json").read_text()) == "quartet train data"


@pytest.mark.parametrize("named", [True, False])
def test_a_name_that_was_given_holds_when_the_run_is_published_later(named, run, draft, tmp_path):
    deliver(run(publish=True), [draft("one")])
    path = tmp_path / "models" / "one" / "1" / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"labels": ["ash", "elm", "oak"]}))
    deliver(run(name="one" if named else None), [draft("one")])
    publish = partial(publish_run, tmp_path / "run", PublishOptions(models=tmp_path / "models"), run().console)
    if named:
        publish(again=False)
        assert (tmp_path / "models" / "one" / "2").is_dir()
    else:
        with pytest.raises(ValueError, match="repeat the command of the training with --resume --publish and a --name"):
            publish(again=False)


def test_figures_that_are_no_numbers_are_left_out(run, draft, tmp_path):
    line = Baseline(name="a line", figure="accuracy", validation=math.nan, items=7, test=lambda: 0.5)
    deliver(run(baseline=line), [draft("one")])
    assert read_manifest(tmp_path / "run" / "export").baseline is None


def test_the_card_has_the_figure_of_the_model_on_validation(run, draft, tmp_path):
    line = Baseline(name="a line", figure="accuracy", validation=0.5, items=7, test=lambda: 0.5)
    deliver(run(baseline=line), [draft("one", validation=lambda graph: float(graph.stat().st_size > 0))])
    assert read_manifest(tmp_path / "run" / "export").baseline.model_validation == 1
    card = (tmp_path / "run" / "export" / "report" / "README.md").read_text()
    assert "The model reaches 1.0000 on the same half of validation." in card
