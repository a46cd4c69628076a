"""quartet predict --server and models --server: the answers are those of the command without a server."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import PIL.Image
import pytest

from quartet.command_line import main
from tests.server import ROOT, Server

EXAMPLES = ROOT / "examples"
CAT, SMEAR = str(EXAMPLES / "cat.jpg"), str(EXAMPLES / "smear.jpg")

Ask = Callable[..., list[dict[str, Any]]]


@pytest.fixture
def ask(everything: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Ask:
    """Runs `quartet predict` with the server of QUARTET_URL, or without one, and returns the rows."""

    def run(*arguments: str, code: int = 0, local: bool = False) -> list[dict[str, Any]]:
        if local:
            monkeypatch.delenv("QUARTET_URL", raising=False)
            monkeypatch.setenv("QUARTET_DEVICE", "cpu")
            monkeypatch.setenv("QUARTET_THREADS", "1")
            monkeypatch.setenv("QUARTET_MODELS", str(ROOT / "models"))
        else:
            monkeypatch.setenv("QUARTET_URL", everything.url)
            monkeypatch.setenv("QUARTET_MODELS", "nowhere")
        assert main(["predict", *arguments, "--format", "jsonl"]) == code
        return [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    return run


@pytest.mark.parametrize(
    "arguments",
    [
        ["classifier", CAT, str(EXAMPLES / "rows.csv"), str(EXAMPLES / "no-such.jpg"), str(EXAMPLES), "-o", "top_k=2"],
        ["detector", SMEAR, "-o", "confidence=0.5"],
        ["topics", str(EXAMPLES / "article.txt"), "-o", "explain=true"],
        ["tabular", str(EXAMPLES / "rows.csv"), str(EXAMPLES / "rows.json"), CAT],
        ["encoder/1", str(EXAMPLES / "seven.png")],
        ["decoder", str(EXAMPLES / "latents.json"), "--operation", "decode"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_the_answers_are_those_without_a_server(ask: Ask, arguments: list[str]):
    code = 1 if arguments[0] in ("classifier", "tabular") else 0
    remote, local = (ask(*arguments, code=code, local=local) for local in (False, True))
    assert [row["file"] for row in remote] == [row["file"] for row in local]
    for ours, theirs in zip(remote, local, strict=True):
        assert ours.keys() == theirs.keys()
        if "error" in ours and isinstance(ours["error"], str):
            assert ours["error"].partition(":")[0] == theirs["error"].partition(":")[0]
        if "labels" in ours:
            assert [each["label"] for each in ours["labels"]] == [each["label"] for each in theirs["labels"]]


def test_tables_of_images_and_texts(ask: Ask, tmp_path: Path):
    lines = [{"image": CAT, "id": 1}, {"image": "none.jpg"}, {"id": 3}]
    (tmp_path / "images.jsonl").write_text("\n".join(map(json.dumps, lines)))
    first, second, third = ask("classifier", str(tmp_path / "images.jsonl"), code=1)
    assert (first["row"], first["name"], first["labels"][0]["label"]) == (0, CAT, "cat")
    assert "No such file" in second["error"]
    assert third["error"] == "Invalid request: The line lacks image."
    (tmp_path / "texts.csv").write_text(
        "id,article\n1,Crude oil prices rose again in May.\n2,\n3,Coffee quotas rose today.\n"
    )
    rows = ask("topics", str(tmp_path / "texts.csv"), "--column", "article", code=1)
    assert [row.get("labels", [{"label": None}])[0]["label"] for row in rows] == ["crude", None, "coffee"]


def test_standard_input_and_pictures(ask: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(Path(CAT).read_bytes())))
    assert ask("classifier", "-")[0]["labels"][0]["label"] == "cat"
    (tmp_path / "bad.jpg").write_bytes(b"junk")
    drawn, bad = ask("detector", SMEAR, str(tmp_path / "bad.jpg"), "--render", str(tmp_path), code=1)
    PIL.Image.open(drawn["picture"]).verify()
    assert bad["error"].startswith("Undecodable image: ")
    (restored,) = ask("decoder", str(EXAMPLES / "latents.json"), "--render", str(tmp_path))
    PIL.Image.open(restored["picture"]).verify()


@pytest.mark.parametrize(
    ("arguments", "code", "about"),
    [
        (["dogs", CAT], 2, "No model 'dogs' is served"),
        (["classifier", CAT, "-o", "topk=1"], 2, "'topk'"),
        (["classifier", CAT, "--operation", "see"], 2, "this command knows predict, detect"),
        (["classifier", CAT, "--render", "out"], 2, "answers no pictures"),
        (["classifier", CAT, "--server", "127.0.0.1:1"], 1, "is the server running there?"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    everything: Server, arguments: list[str], code: int, about: str, capsys: pytest.CaptureFixture[str],
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
):  # fmt: skip
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("QUARTET_URL", everything.url)
    assert main(["predict", *arguments]) == code
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    assert about in said


def test_a_folder_that_is_named_is_preferred_to_the_servers_variable(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("QUARTET_URL", "http://127.0.0.1:1")
    assert main(["models", "--models", str(ROOT / "models"), "--json"]) == 0
    assert len(capsys.readouterr().out.splitlines()) > 5
    with pytest.raises(SystemExit):
        main(["models", "--models", "models", "--server", "http://127.0.0.1:1"])


def test_the_models_of_a_server(everything: Server, capsys: pytest.CaptureFixture[str]):
    assert main(["models", "--server", everything.url, "--format", "jsonl"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {"classifier", "topics"} <= {row["model"] for row in rows}
    assert {"model", "version", "task", "device", "variant", "figures", "description"} == rows[0].keys()
    assert main(["models", "classifier", "--server", everything.url, "--json"]) == 0
    (row,) = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert row["aliases"] == ["default"]
    assert main(["models", "clasifier", "--server", everything.url]) == 2
    assert "did you mean classifier?" in capsys.readouterr().err
