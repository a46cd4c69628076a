import os
import shutil

import numpy as np
import pytest

from service.inference.manifest import GOLDEN, MANIFEST, MODEL, InvalidModel
from service.inference.session import Session
from service.tasks.registry import read_manifest
from training.export.graph import write_golden
from training.export.publish import DRAFT, publish, publish_draft, write_draft


@pytest.fixture
def write(exported_cnn, make_manifest, colours):
    """Fills a folder as a recipe does."""

    def fill(folder):
        shutil.copy(exported_cnn.path, folder / MODEL)
        write_golden(exported_cnn.graph, colours.test.images[:4], folder / GOLDEN, **exported_cnn.names)
        return make_manifest()

    return fill


def publish_one(root, write):
    (folder,) = publish(root, [("colours", write)])
    return folder


def test_published_versions_are_numbered_from_one_and_can_be_served(write, tmp_path):
    first, second = publish_one(tmp_path, write), publish_one(tmp_path, write)
    assert (first, second) == (tmp_path / "colours" / "1", tmp_path / "colours" / "2")
    for folder in (first, second):
        manifest = read_manifest(folder)
        assert set(manifest.files) == {MODEL, GOLDEN}
        assert Session(folder / MODEL, "cpu").check(folder, manifest) <= 1e-4
    assert sorted(os.listdir(tmp_path / "colours")) == ["1", "2"]


def test_next_version_follows_the_highest_number_and_passes_over_other_names(write, tmp_path):
    for name in ("2", "10", "notes", ".draft-old"):
        (tmp_path / "colours" / name).mkdir(parents=True)
    assert publish_one(tmp_path, write).name == "11"


def test_published_folder_can_be_read_by_others(write, tmp_path):
    assert publish_one(tmp_path, write).stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize("failure", [RuntimeError("disk full"), KeyboardInterrupt()])
def test_failing_write_leaves_the_versions_as_they_were(write, tmp_path, failure):
    def fail(folder):
        write(folder)
        raise failure

    publish_one(tmp_path, write)
    with pytest.raises(type(failure)):
        publish_one(tmp_path, fail)
    assert os.listdir(tmp_path / "colours") == ["1"]


def test_failing_first_write_leaves_nothing_behind(write, tmp_path):
    def fail(folder):
        write(folder)
        raise RuntimeError("disk full")

    with pytest.raises(RuntimeError, match="disk full"):
        publish_one(tmp_path / "models", fail)
    assert not list(tmp_path.rglob("colours/*"))
    assert not (tmp_path / "models" / "colours").exists()


def test_version_whose_golden_file_disagrees_is_not_published(write, tmp_path):
    def spoil(folder):
        manifest = write(folder)
        with np.load(folder / GOLDEN) as golden:
            images, probabilities = golden["images"], golden["probabilities"]
        np.savez(folder / GOLDEN, images=images, probabilities=probabilities[:, ::-1])
        return manifest

    publish_one(tmp_path, write)
    with pytest.raises(InvalidModel, match=r"differs from golden\.npz"):
        publish_one(tmp_path, spoil)
    assert os.listdir(tmp_path / "colours") == ["1"]


def test_manifest_is_written_last_with_a_line_end(write, tmp_path):
    folder = publish_one(tmp_path, write)
    assert (folder / MANIFEST).read_text().endswith("}\n")


def occupy(folder):
    """What another run leaves when it publishes a version."""
    folder.mkdir(parents=True)
    (folder / MANIFEST).write_text("of another training")


def test_a_number_taken_while_the_version_is_written_is_skipped(write, tmp_path):
    def write_slowly(folder):
        manifest = write(folder)
        occupy(tmp_path / "colours" / "1")
        return manifest

    assert publish_one(tmp_path, write_slowly).name == "2"
    assert (tmp_path / "colours" / "1" / MANIFEST).read_text() == "of another training"


@pytest.mark.parametrize("taken", [1, 3])
def test_numbers_taken_between_listing_and_renaming_are_skipped(write, tmp_path, monkeypatch, taken):
    rename, attempts = os.rename, []

    def rename_late(source, target):
        attempts.append(target.name)
        if len(attempts) <= taken:
            occupy(target)
        rename(source, target)

    monkeypatch.setattr("service.inference.drafts.os.rename", rename_late)
    version = publish_one(tmp_path, write)
    assert attempts == [str(number) for number in range(1, taken + 2)]
    assert version.name == str(taken + 1)
    assert read_manifest(version).name == "colours"
    assert sorted(os.listdir(tmp_path / "colours")) == attempts


def test_other_failures_to_rename_are_not_retried(write, tmp_path, monkeypatch):
    def refuse(source, target):
        raise PermissionError(13, "no such right")

    monkeypatch.setattr("service.inference.drafts.os.rename", refuse)
    with pytest.raises(PermissionError):
        publish_one(tmp_path, write)
    assert not (tmp_path / "colours").exists()


def test_several_versions_are_published_together(write, tmp_path):
    publish(tmp_path, [("two", write)])
    folders = publish(tmp_path, [(name, write) for name in ("one", "two", "three")])
    assert folders == [tmp_path / "one" / "1", tmp_path / "two" / "2", tmp_path / "three" / "1"]
    assert all(read_manifest(folder) for folder in folders)


def test_none_of_several_is_published_if_one_cannot_be_written(write, tmp_path):
    published = []

    def fail(folder):
        published.extend(path for path in tmp_path.glob("*/1") if path.is_dir())
        raise RuntimeError("disk full")

    with pytest.raises(RuntimeError, match="disk full"):
        publish(tmp_path, [("one", write), ("two", write), ("three", fail)])
    assert published == []
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("failure", [OSError(28, "no space left"), KeyboardInterrupt()])
def test_versions_are_withdrawn_if_a_later_one_gets_no_number(write, tmp_path, monkeypatch, failure):
    publish(tmp_path, [("one", write)])
    rename, seen = os.rename, []

    def rename_twice(source, target):
        if target.parent.name == "three":
            seen.extend(sorted(str(path.relative_to(tmp_path)) for path in tmp_path.glob("*/[0-9]")))
            raise failure
        rename(source, target)

    monkeypatch.setattr("service.inference.drafts.os.rename", rename_twice)
    with pytest.raises(type(failure)):
        publish(tmp_path, [(name, write) for name in ("one", "two", "three")])
    assert seen == ["one/1", "one/2", "two/1"]
    assert [str(path.relative_to(tmp_path)) for path in tmp_path.glob("*/*")] == ["one/1"]
    assert read_manifest(tmp_path / "one" / "1")


def test_a_draft_is_published_later(write, tmp_path):
    run, models = tmp_path / "run", tmp_path / "models"
    (run / DRAFT / "report").mkdir(parents=True)
    write_draft(run / DRAFT, write)
    (run / DRAFT / "report" / "README.md").write_text("# colours\n")
    (run / DRAFT / "notes.txt").write_text("not of the version")
    (folder,) = publish_draft(run, models)
    assert folder == models / "colours" / "1"
    assert read_manifest(folder).files == read_manifest(run / DRAFT).files
    assert (folder / "report" / "README.md").read_text().startswith("# colours")
    assert not (folder / "notes.txt").exists()
    assert publish_draft(run, models)[0].name == "2"


def test_several_drafts_are_published_together(write, make_manifest, tmp_path):
    for name in ("one", "two"):
        (tmp_path / DRAFT / name).mkdir(parents=True)
        write_draft(tmp_path / DRAFT / name, lambda folder, name=name: write(folder).model_copy(update={"name": name}))
    assert [folder.parent.name for folder in publish_draft(tmp_path, tmp_path / "models")] == ["one", "two"]


def test_a_draft_that_is_incomplete_changed_or_of_another_model_is_refused(write, make_manifest, tmp_path):
    run, models = tmp_path / "run", tmp_path / "models"
    with pytest.raises(ValueError, match="holds no complete draft"):
        publish_draft(run, models)
    (run / DRAFT).mkdir(parents=True)
    write_draft(run / DRAFT, write)
    publish(models, [("colours", lambda folder: write(folder).model_copy(update={"labels": ("a", "b", "c")}))])
    with pytest.raises(ValueError, match="holds a model of other labels"):
        publish_draft(run, models)
    (run / DRAFT / GOLDEN).write_bytes(b"")
    with pytest.raises(InvalidModel, match="is not the file that the manifest was made with"):
        publish_draft(run, tmp_path / "others")
    assert not (tmp_path / "others").exists()
