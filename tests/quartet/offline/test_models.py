import json
import shutil
from pathlib import Path

import pytest

from quartet.command_line import main
from tests.tiny import write_model
from tests.tiny_text import write_topics


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("QUARTET_MODELS", str(tmp_path))
    write_model(tmp_path)
    write_topics(tmp_path)
    return tmp_path


def test_models_are_listed_with_their_newest_version(folder: Path, capsys: pytest.CaptureFixture[str]):
    shutil.copytree(folder / "classifier" / "1", folder / "classifier" / "2")
    assert main(["models"]) == 0
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.split() == ["model", "version", "task", "answers", "figures", "description"]
    assert [line.split()[:4] for line in lines] == [
        ["classifier", "2", "classification", "predict"],
        ["topics", "1", "text", "classify-text"],
    ]
    assert main(["models", "classifier", "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["version"] for row in rows] == ["2", "1"]
    assert rows[0]["figures"]["accuracy"] > 0


def test_models_as_csv_and_json(folder: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["models", "--format", "json"]) == 0
    assert [row["model"] for row in json.loads(capsys.readouterr().out)] == ["classifier", "topics"]
    assert main(["models", "--format", "csv"]) == 0
    head, *lines = capsys.readouterr().out.splitlines()
    assert head == "model,version,task,answers,figures,variants,description"
    assert len(lines) == 2


def test_a_version_that_cannot_be_served_says_why_and_the_next_one_is_listed(
    folder: Path, capsys: pytest.CaptureFixture[str]
):
    shutil.copytree(folder / "classifier" / "1", folder / "classifier" / "2")
    (folder / "classifier" / "2" / "golden.npz").unlink()
    assert main(["models", "--json"]) == 1
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert rows[0] == {"model": "classifier", "version": "2", "problem": "golden.npz: is missing"}
    assert (rows[1]["version"], rows[1]["task"]) == ("1", "classification")


def test_the_policy_says_which_version_is_listed(folder: Path, capsys: pytest.CaptureFixture[str]):
    shutil.copytree(folder / "classifier" / "1", folder / "classifier" / "2")
    policy = folder / "classifier" / "serving.toml"
    policy.write_text('default = "stable"\n[aliases]\nstable = "1"\ncandidate = "2"\n')
    assert main(["models", "--json"]) == 0
    row = json.loads(capsys.readouterr().out.splitlines()[0])
    assert (row["version"], row["aliases"]) == ("1", ["stable"])
    assert main(["models", "classifier", "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(row["version"], row["aliases"]) for row in rows] == [("2", ["candidate"]), ("1", ["default", "stable"])]
    policy.write_text("nonsense = 1\n")
    assert main(["models", "classifier"]) == 1
    assert "serving.toml, line 1: " in capsys.readouterr().out


def test_what_is_not_there_is_said(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["models", "dogs"]) == 2
    assert "holds no model dogs; it holds classifier, topics." in capsys.readouterr().err
    assert main(["models", "topic"]) == 2
    assert "did you mean topics?" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    assert main(["models", "--models", str(tmp_path / "empty")]) == 1
    assert "quartet train" in capsys.readouterr().err
    assert main(["models", "--models", str(tmp_path / "nothing")]) == 1
    assert "there is no folder" in capsys.readouterr().err
