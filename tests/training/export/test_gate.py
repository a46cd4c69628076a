"""Which published versions become the default, and what the serving policies say then."""

import json
import os
import shutil
from pathlib import Path

import pytest

from service.policy.file import InvalidPolicy, read_audit, read_policy
from service.tasks.registry import read_manifest
from tests.server import ROOT
from tests.tiny import write_model
from tests.tiny_autoencoder import write_autoencoder
from training.export.gate import Gate, comparable_fingerprint, compare
from training.export.publish import publish


class Models:
    """A models folder into which versions with given figures are published."""

    def __init__(self, folder, console):
        self.folder = folder
        self._console = console
        write_model(folder)  # 30 of 30 test items right

    def publish(self, figure, *, names=("classifier",), fingerprint=None, **options):
        """Publishes a version, and gives the lines that are printed."""
        gate = Gate(self.folder, **options)
        publish(self.folder, [(name, self._writer(name, figure, fingerprint)) for name in names], gate)
        self._console.file.truncate(self._console.file.seek(0))
        gate.print(self._console)
        return self._console.file.getvalue().splitlines()

    def _writer(self, name, figure, fingerprint):
        def write(folder):
            shutil.copytree(self.folder / name / "1", folder, dirs_exist_ok=True)
            manifest = read_manifest(folder)
            metrics = manifest.metrics.model_copy(update={manifest.main_figure.name: figure})
            data = manifest.data.model_copy(update={"fingerprint": fingerprint or manifest.data.fingerprint})
            return manifest.model_copy(update={"metrics": metrics, "data": data})

        return write

    def policy(self, name="classifier"):
        return read_policy(self.folder / name / "serving.toml")

    def write(self, text):
        (self.folder / "classifier" / "serving.toml").write_text(text)

    @property
    def default(self):
        """The default version of the classifier."""
        folder = self.folder / "classifier"
        return self.policy().default_of([path.name for path in folder.iterdir() if path.is_dir()])


@pytest.fixture
def models(tmp_path, console):
    return Models(tmp_path / "models", console)


def test_a_version_that_is_as_good_becomes_the_default(models):
    (line,) = models.publish(29 / 30)
    assert line == (
        "classifier/2 is the default in place of classifier/1: "
        "accuracy 0.9667 (0.8333 to 0.9941) against 1 (0.8865 to 1)"
    )
    assert models.default == "2"
    assert not (models.folder / "classifier" / "serving.toml").exists()


def test_a_worse_version_is_the_candidate_and_the_lines_say_why_and_what_next(models):
    why, following = models.publish(0.5)
    assert why == (
        "classifier/2 is published as `candidate`, and classifier/1 stays the default: it is worse beyond the 95 % "
        "intervals: accuracy 0.5 (0.3315 to 0.6685) against 1 (0.8865 to 1)"
    )
    assert "quartet models shadow classifier candidate" in following
    assert "quartet models promote classifier candidate" in following
    assert (models.default, models.policy().aliases) == ("1", {"candidate": "2"})
    models.publish(0.6)
    assert (models.default, models.policy().aliases) == ("1", {"candidate": "3"})


def test_a_server_never_sees_the_worse_version_without_the_policy(models, monkeypatch):
    rename, seen = os.rename, []

    def look(source, target):
        seen.append(models.default)
        rename(source, target)
        seen.append(models.default)

    monkeypatch.setattr("service.inference.drafts.os.rename", look)
    models.publish(0.5)
    assert seen == ["1", "1"]


def test_a_version_that_gets_no_number_leaves_the_policy_as_it_was(models, monkeypatch):
    models.write('# ours\n[aliases]\nstable = "1"\n')
    before = models.policy()

    def refuse(source, target):
        raise PermissionError(13, "no such right")

    monkeypatch.setattr("service.inference.drafts.os.rename", refuse)
    with pytest.raises(PermissionError):
        models.publish(0.5)
    assert models.policy() == before
    assert "# ours" in (models.folder / "classifier" / "serving.toml").read_text()


def test_a_worse_version_is_compared_with_the_default_of_the_policy(models):
    models.publish(0.5, force=True)
    assert models.default == "2"
    models.publish(0.55)  # as good as what serves, though worse than an older version
    assert models.default == "3"


def test_force_makes_a_worse_version_the_default(models):
    (line,) = models.publish(0.5, force=True)
    assert line.startswith("classifier/2 is the default in place of classifier/1: it is worse")
    models.write('default = "stable"  # ours\n[aliases]\nstable = "1"\n')
    models.publish(0.5, force=True)
    policy = models.policy()
    assert (policy.default, policy.aliases, policy.previous) == ("stable", {"stable": "3"}, "1")
    assert "# ours" in (models.folder / "classifier" / "serving.toml").read_text()
    models.write('default = "1"\n')
    models.publish(0.5, force=True)
    assert (models.policy().default, models.policy().previous) == ("4", "1")


def test_candidate_keeps_the_default_whatever_the_figures(models):
    line, following = models.publish(1.0, candidate=True)
    assert line.startswith("classifier/2 is published as `candidate`, and classifier/1 stays the default: accuracy 1 (")
    assert "promote classifier candidate" in following
    assert models.default == "1"


def test_the_first_version_is_the_default_even_as_candidate(models, tmp_path, console):
    write_model(tmp_path, "other")
    shutil.move(tmp_path / "other" / "1", tmp_path / "draft")

    def write(folder):
        shutil.copytree(tmp_path / "draft", folder, dirs_exist_ok=True)
        return read_manifest(folder)

    gate = Gate(models.folder, candidate=True)
    publish(models.folder, [("other", write)], gate)
    gate.print(console)
    assert console.file.getvalue() == "other/1 is the only version of other, so it is the default.\n"
    assert models.policy("other").aliases == {"candidate": "1"}
    assert models.policy("other").default == "latest"


def test_a_policy_that_names_its_default_keeps_it_and_the_line_says_so(models):
    models.write('default = "stable"\n[aliases]\nstable = "1"\n')
    line, following = models.publish(1.0)
    assert line.startswith("classifier/2 is published, but the serving policy of classifier keeps classifier/1: ")
    assert "quartet models promote classifier 2" in following
    models.publish(0.5)
    policy = models.policy()
    assert (policy.default, policy.aliases) == ("stable", {"stable": "1", "candidate": "3"})


def test_the_default_keeps_the_alias_that_it_has(models):
    models.write('[aliases]\nstable = "1"\n')
    models.publish(0.5)
    assert models.policy().default == "stable"


def test_a_default_called_candidate_does_not_follow_the_alias(models):
    models.publish(1.0)
    models.write('default = "candidate"\n[aliases]\ncandidate = "2"\n')
    models.publish(0.5)
    assert (models.default, models.policy().aliases["candidate"]) == ("2", "3")


def test_a_trial_goes_on_with_the_version_that_it_began_with(models):
    models.publish(1.0, candidate=True)
    models.write(
        'default = "1"\n[aliases]\ncandidate = "2"\n[shadow]\nversion = "candidate"\n'
        "promote = { agreement = 0.98, after = 1000 }\n"
    )
    models.publish(0.5)
    policy = models.policy()
    assert (policy.shadow.version, policy.aliases["candidate"]) == ("2", "3")


def test_versions_on_other_data_are_published_and_the_line_says_so(models):
    (line,) = models.publish(0.5, fingerprint="sha256:1")
    assert line == (
        "classifier/2 is the default in place of classifier/1: the two cannot be compared: they were measured on "
        "different data"
    )
    assert models.default == "2"


def test_a_version_that_cannot_be_served_is_not_what_is_compared_with(models):
    models.publish(0.5, force=True)
    (models.folder / "classifier" / "2" / "model.onnx").unlink()
    models.publish(0.5)
    assert models.default == "1"


def test_models_that_are_published_together_stay_together(models):
    write_autoencoder(models.folder)
    names = ("autoencoder", "encoder", "decoder")
    error = read_manifest(models.folder / "autoencoder" / "1").metrics.mse
    shutil.copytree(models.folder / "encoder" / "1", models.folder / "encoder" / "2")
    path = models.folder / "encoder" / "2" / "manifest.json"
    document = json.loads(path.read_text())
    document["metrics"]["mse"] = 1000 * error
    path.write_text(json.dumps(document))
    lines = models.publish(2 * error + 0.1, names=names)
    assert [line.partition(",")[0] for line in lines[:3]] == [
        "autoencoder/2 is published as `candidate`",
        "encoder/3 is published as `candidate`",
        "decoder/2 is published as `candidate`",
    ]
    for name, default, version in (("autoencoder", "1", "2"), ("encoder", "2", "3"), ("decoder", "1", "2")):
        assert (models.policy(name).default, models.policy(name).aliases) == (default, {"candidate": version})


def test_an_invalid_policy_is_refused_and_nothing_is_published(models):
    models.write("default = 1.5\n")
    with pytest.raises(InvalidPolicy, match=r"serving\.toml, line 1"):
        models.publish(1.0)
    with pytest.raises(InvalidPolicy):
        Gate(models.folder).check("classifier")
    assert not (models.folder / "classifier" / "2").exists()


def test_changes_are_in_the_audit_log(models):
    models.publish(0.5)
    entries = read_audit(models.folder / "classifier" / "audit.jsonl", 10)
    assert [(entry["actor"], entry["action"]) for entry in entries] == [
        ("training", "publish 2 as candidate"),
        ("training", "keep 1 as the default"),
    ]


def test_policies_may_be_in_a_folder_of_their_own(models, tmp_path, monkeypatch):
    monkeypatch.setenv("QUARTET_STATE", str(tmp_path / "state"))
    models.publish(0.5)
    assert read_policy(Path(tmp_path / "state" / "classifier" / "serving.toml")).default == "1"
    assert not (models.folder / "classifier" / "serving.toml").exists()


class Images:
    """Data whose manifests had a fingerprint of pixels before they had one of files."""

    fingerprint = "files-sha256:1"

    def pixel_fingerprint(self):
        return "sha256:1"


def test_a_retraining_has_the_fingerprint_by_which_older_versions_know_the_same_data(models):
    folder = models.folder / "classifier"
    assert comparable_fingerprint(folder, Images()) == "files-sha256:1"  # version 1 is of other data
    models.publish(1.0, fingerprint="sha256:1")
    assert comparable_fingerprint(folder, Images()) == "sha256:1"
    assert comparable_fingerprint(models.folder / "nothing", Images()) == "files-sha256:1"


def committed(name):
    return read_manifest(ROOT / "models" / name / "1")


def changed(manifest, figure, interval=None, **data):
    """The manifest with another value of one of its figures, and another interval or none."""
    intervals = {name: each for name, each in manifest.intervals.items() if name != figure}
    intervals |= {figure: interval[1:]} if interval and len(interval) == 3 else {}
    value = interval[0] if interval else getattr(manifest.metrics, figure)
    return manifest.model_copy(
        update={
            "metrics": manifest.metrics.model_copy(update={figure: value}),
            "intervals": intervals,
            "data": manifest.data.model_copy(update=data),
        }
    )


@pytest.mark.parametrize(
    ("model", "figure", "better"),
    [
        ("classifier", "accuracy", 1),
        ("topics", "accuracy", 1),
        ("tabular", "accuracy", 1),
        ("detector", "map", 1),
        ("autoencoder", "mse", -1),
        ("encoder", "mse", -1),
        ("decoder", "mse", -1),
    ],
)
def test_every_task_has_a_figure_and_its_direction(model, figure, better):
    serving = committed(model)
    assert not compare(serving, serving)[0]
    value, (low, high) = getattr(serving.metrics, figure), serving.intervals[figure]
    width = high - low
    for shift, worse in ((-2, True), (-0.3, False), (0.3, False), (2, False)):
        by = better * shift * width
        new = changed(serving, figure, (value + by, low + by, high + by))
        is_worse, words = compare(new, serving)
        assert (words.split()[0], is_worse) == (figure, worse), shift


def test_the_number_of_test_items_gives_an_interval_to_accuracy():
    serving = changed(committed("tabular"), "accuracy")  # 110 of 114
    assert serving.intervals.keys() == {"macro_f1"}
    few = changed(serving, "accuracy", (104 / 114,))
    assert not compare(few, serving)[0]
    assert compare(changed(serving, "accuracy", (95 / 114,)), serving)[0]
    assert compare(few, serving)[1] == "accuracy 0.9123 (0.846 to 0.9517) against 0.9649 (0.9132 to 0.9863)"


def test_a_figure_whose_intervals_are_unknown_counts_as_exact():
    serving = changed(committed("detector"), "map", (0.61,))
    assert compare(changed(serving, "map", (0.60,)), serving)[0]
    assert not compare(changed(serving, "map", (0.61,)), serving)[0]
    assert "0.6 (of unknown interval) against" in compare(changed(serving, "map", (0.6,)), serving)[1]


def test_other_data_and_other_figures_cannot_be_compared():
    serving = committed("classifier")
    other = changed(serving, "accuracy", (0.1,), fingerprint="sha256:0")
    assert compare(other, serving) == (False, "the two cannot be compared: they were measured on different data")
    regression = changed(committed("tabular"), "accuracy", (None,))
    is_worse, words = compare(regression, committed("tabular"))
    assert (is_worse, words) == (False, "the two cannot be compared: they have no main test figure in common")
