"""quartet replay: versions on captured items, and captured items to a server."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from quartet.command_line import main
from service.capture.database import DAY
from service.capture.feedback_table import Feedback
from service.capture.store import Item, Store
from tests.pictures import encode, photograph
from tests.quartet.captured.test_captured import TIME, item, keep
from tests.server import Server
from tests.tiny import LABELS, solid, write_model
from tests.tiny_detector import write_detector
from tests.tiny_familiar import make_familiar
from tests.tiny_tabular import write_tabular
from tests.tiny_text import write_topics


def image_of(number: int, label: str, **changes: object) -> Item:
    answer = {"labels": [{"label": label, "index": LABELS.index(label), "probability": 0.9}]}
    return item(number, content=encode(solid(label)), answer=answer, **changes)


def said(number: int, truth: object, model: str = "classifier") -> Feedback:
    time = TIME + number
    return Feedback(f"r-{number}", 0, "", {"truth": truth}, time, time + DAY, model, "1", truth, "accuracy", 1.0, 1.0)


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """Two versions of a classifier; the second takes blue for green and green for blue."""
    folder = tmp_path / "models"
    write_model(folder)
    write_model(folder, version="2", labels=["red", "blue", "green"])
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Six images, of which four have feedback: the second version is right about one of them."""
    items = [image_of(number, label) for number, label in enumerate(("red", "red", "red", "green", "blue", "blue"))]
    return keep(tmp_path / "captures", items, [said(0, "red"), said(1, "red"), said(3, "green"), said(4, "blue")])


def run(models: Path, *arguments: object, code: int = 0) -> None:
    assert main(["replay", *map(str, arguments), "--models", str(models)]) == code


BOTH = ("--model", "classifier/1", "--model", "classifier/2")


def test_agreement_by_class_and_quality(models: Path, folder: Path, capsys: pytest.CaptureFixture[str]):
    run(models, folder, *BOTH)
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert lines[0].startswith("classifier/2 agrees with classifier/1 on 50.0 % (")
    assert lines[0].endswith(" of 6 items.")
    counts = {line.split()[0]: line.split()[1:3] for line in lines[2:5]}
    assert counts == {"green": ["1", "0.0"], "blue": ["2", "0.0"], "red": ["3", "100.0"]}
    assert lines[-2].startswith("classifier/1 4 1.000 ")
    assert lines[-1].startswith("classifier/2 4 0.500 ")


def test_the_most_different_examples_are_written(models: Path, folder: Path, tmp_path: Path):
    run(models, folder, *BOTH, "--examples", tmp_path / "examples")
    pictures = [(tmp_path / "examples" / f"{number:02d}.png").read_bytes() for number in (1, 2, 3)]
    assert sorted(pictures) == sorted(encode(solid(label)) for label in ("blue", "blue", "green"))
    text = (tmp_path / "examples" / "README.md").read_text()
    assert "- classifier/1: blue 1.00" in text
    assert '- truth: "blue"' in text
    run(models, folder, *BOTH, "--examples", tmp_path / "examples", code=1)


def test_filters_choose_items(models: Path, folder: Path, capsys: pytest.CaptureFixture[str]):
    run(models, folder, *BOTH, "--request", "r-5")
    out = capsys.readouterr().out
    assert "of 1 items" in out
    assert "nothing is known of quality" in out
    run(models, folder, *BOTH, "--request", "nobody's", code=1)
    assert "holds no such items of classifier" in capsys.readouterr().err


def test_boxes_are_compared_in_pixels_of_what_was_sent(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    models = tmp_path / "models"
    write_detector(models)
    write_detector(models, version="2")
    image = encode(photograph(60, 80))
    assert main(["predict", "detector/1", _saved(tmp_path, image), "--json", "--models", str(models)]) == 0
    answer = json.loads(capsys.readouterr().out)
    sent = {
        "width": 160, "height": 120, "counts": {},
        "boxes": [{**box, **{name: 2 * box[name] for name in _CORNERS}} for box in answer["boxes"]],
    }  # fmt: skip
    truth = [{"label": box["label"], **{name: box[name] for name in _CORNERS}} for box in sent["boxes"]]
    mine = item(0, model="detector", operation="detect", answer=sent, content=image)
    folder = keep(tmp_path / "captures", [mine], [said(0, truth, "detector")])
    run(models, folder, "--model", "detector/1", "--model", "detector/2")
    out = capsys.readouterr().out
    assert "agrees with detector/1 on 100.0 %" in out
    if truth:
        assert "1.000" in out


_CORNERS = ("x_min", "y_min", "x_max", "y_max")


def _saved(folder: Path, image: bytes) -> str:
    (folder / "image.png").write_bytes(image)
    return str(folder / "image.png")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--model", "classifier/1"], "name two or more versions of one model"),
        (["--model", "classifier/1", "--model", "other/1"], "name two or more versions of one model"),
        ([*BOTH, "--speed", "2"], "--protocol, --speed and --clients are for --server"),
        ([*BOTH, "--protocol", "v2"], "--protocol, --speed and --clients are for --server"),
        (["--model", "classifier", "--server", "x", "--models", "y"], "--server needs --models for --protocol v2 only"),
        ([*BOTH, "--server", "x"], "--server takes one --model"),
        (["--model", "classifier", "--server", "x", "--speed", "0"], "must be above 0, or full"),
    ],
)
def test_options_that_do_not_fit(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as error:
        main(["replay", *arguments])
    assert error.value.code == 2
    assert words in capsys.readouterr().err


def test_an_unknown_version_is_named(models: Path, folder: Path, capsys: pytest.CaptureFixture[str]):
    run(models, folder, "--model", "classifier/1", "--model", "classifier/7", code=2)
    assert "There is no version '7' of classifier: there are 2, 1" in capsys.readouterr().err


def test_items_are_sent_to_a_server(tmp_path: Path, models: Path, folder: Path, capsys: pytest.CaptureFixture[str]):
    write_topics(models)
    write_tabular(models)
    text = {"media_type": "application/json", "content": b'{"text": "oil prices"}', "answer": {"labels": []}}
    keep(folder, [item(20, model="topics", operation="classify-text", **text)])
    (models / "classifier" / "serving.toml").write_text('default = "1"\n')
    server = Server(models=models)

    def replay(*arguments: object, code: int = 0) -> str:
        assert main(["replay", str(folder), "--server", server.url, *map(str, arguments)]) == code
        return capsys.readouterr().out

    out = replay("--model", "classifier")
    assert out.startswith("6 of 6 requests were answered, ")
    assert "6 of 6 answers say the same as the recorded ones." in out
    assert "3 of 6 answers say the same" in replay("--model", "classifier/2", "--clients", "2")
    # The items are a second apart.
    assert "6 of 6" in replay("--model", "classifier", "--speed", "20")
    assert "1 of 1 requests were answered" in replay("--model", "topics")
    (models / "gone").mkdir()
    keep(folder, [item(30, model="gone")])
    assert "1 failed: 404 unknown-model" in replay("--model", "gone", code=1)
    assert server.stop() == 0


def test_items_are_sent_as_tensors(tmp_path: Path, models: Path, folder: Path, capsys: pytest.CaptureFixture[str]):
    write_topics(models)
    write_tabular(models)
    write_detector(models)
    (models / "classifier" / "serving.toml").write_text('default = "1"\n')
    server = Server(models=models)
    image, text, row = encode(photograph(60, 80)), {"text": "oil prices"}, {"mean radius": 3.0, "area": None}
    document = {"media_type": "application/json"}
    with server.client() as client:
        boxes = client.post("/v1/detect", content=image, headers={"content-type": "image/png"})
        topics = client.post("/v1/classify-text", json={"texts": [text["text"]]})
        rows = client.post("/v1/predict-tabular", json={"rows": [row]})
    sent: list[tuple[str, str, httpx.Response, dict[str, Any]]] = [
        ("detector", "detect", boxes, {"content": image}),
        ("topics", "classify-text", topics, {"content": json.dumps(text).encode(), **document}),
        ("tabular", "predict-tabular", rows, {"content": json.dumps(row).encode(), **document}),
    ]
    for number, (model, operation, answer, more) in enumerate(sent, 20):
        found = answer.json()["results"][0]
        keep(folder, [item(number, model=model, operation=operation, answer=found, **more)])

    def replay(*arguments: object, models: Path = models, code: int = 0) -> str:
        given = ["--server", server.url, "--protocol", "v2", "--models", str(models)]
        assert main(["replay", str(folder), *given, *map(str, arguments)]) == code
        return "".join(capsys.readouterr())

    out = replay("--model", "classifier")
    assert out.startswith("6 of 6 requests were answered, ")
    assert "6 of 6 answers say the same as the recorded ones." in out
    assert "3 of 6 answers say the same" in replay("--model", "classifier/2", "--clients", "2")
    assert "6 of 6" in replay("--model", "classifier", "--speed", "20")
    for model, *_ in sent:
        assert "1 of 1 answers say the same" in replay("--model", model)
    make_familiar(write_model(tmp_path / "others"), 1.0)
    assert "but the server's has [" in replay("--model", "classifier", models=tmp_path / "others", code=1)
    assert server.stop() == 0


def test_the_recorded_pace_is_kept(models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    items = [image_of(0, "red"), image_of(1, "red", time=TIME + 0.6)]
    folder = keep(tmp_path / "captures", items)
    server = Server(models=models)
    for speed, least, most in ((1, 0.6, 30), (4, 0.15, 30)):
        arguments = ["--server", server.url, "--model", "classifier", "--speed", str(speed)]
        assert main(["replay", str(folder), *arguments]) == 0
        rate = float(capsys.readouterr().out.split(" a second")[0].split()[-1])
        assert least <= 2 / rate < most
    assert server.stop() == 0


def test_the_captures_must_be_there(models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    run(models, tmp_path, *BOTH, code=1)
    assert "holds no captures" in capsys.readouterr().err
    with Store(tmp_path, create=True):
        run(models, tmp_path, *BOTH, code=1)
