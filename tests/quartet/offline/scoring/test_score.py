"""Scoring gives what the service answers, row for row; what is bad is said in its row; what is cut short goes on."""

import asyncio
import csv
import datetime
import json
import os
import shutil
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from quartet.offline.scoring import score as module
from quartet.offline.scoring.engine import Job
from quartet.offline.scoring.outputs import Layout
from quartet.offline.scoring.parquet import Parquet
from quartet.offline.scoring.score import Summary, score
from quartet.offline.scoring.sources import UnusableInput, UnusableJob
from service.app import create_app
from service.settings import Settings
from service.tasks.base import Images
from service.tasks.registry import BUILT_IN
from tests.pictures import encode
from tests.tiny import solid, write_model
from tests.tiny_autoencoder import write_autoencoder
from tests.tiny_detector import write_detector
from tests.tiny_tabular import write_tabular
from tests.tiny_text import write_topics

COLOURS = ("red", "green", "blue")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    write_model(folder)
    write_autoencoder(folder)
    write_detector(folder)
    write_tabular(folder)
    write_topics(folder)
    return folder


@pytest.fixture
def settings(models: Path) -> Settings:
    return Settings(models=models, device="cpu", threads=2)


async def served(settings: Settings, path: str, **request: Any) -> list[dict[str, Any]]:
    """The results that the service answers."""
    app = create_app(settings)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://quartet") as client,
    ):
        answer = await client.post(path, **request)
    assert answer.status_code == 200, answer.text
    results: list[dict[str, Any]] = answer.json()["results"]
    return results


def rows_of(path: Path) -> list[dict[str, Any]]:
    if path.suffix == ".parquet":
        rows: list[dict[str, Any]] = pq.read_table(path).to_pylist()
        return rows
    return [json.loads(line) for line in path.read_text().splitlines()]


async def test_images_of_a_folder(settings: Settings, tmp_path: Path):
    folder = tmp_path / "images"
    folder.mkdir()
    for index in range(50):
        (folder / f"{index:02d}.png").write_bytes(encode(solid(COLOURS[index % 3])))
    (folder / "07.png").write_bytes(b"damaged")
    output = tmp_path / "out.parquet"
    summary = await score(Job("classifier", options=(("top_k", "1"),)), folder, output, settings)
    assert (summary.rows, summary.errors, summary.resumed) == (50, 1, 0)
    rows = rows_of(output)
    assert [row["row"] for row in rows] == list(range(50))
    bad = rows.pop(7)
    assert bad["labels"] is None
    assert bad["error"].startswith("Undecodable image: ")
    files = [("files", (row["name"], (folder / row["name"]).read_bytes())) for row in rows]
    assert [{"name": row["name"], "labels": row["labels"]} for row in rows] == await served(
        settings, "/v1/predict?top_k=1", files=files
    )
    metadata = pq.read_schema(output).metadata
    assert (metadata[b"quartet.model"], metadata[b"quartet.version"]) == (b"classifier", b"1")


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet", ".csv"])
async def test_a_file_name_that_is_not_utf_8(settings: Settings, tmp_path: Path, suffix: str):
    folder = tmp_path / "images"
    folder.mkdir()
    (folder / os.fsdecode(b"caf\xe9.png")).write_bytes(encode(solid("red")))
    output = tmp_path / f"out{suffix}"
    summary = await score(Job("classifier"), folder, output, settings)
    assert (summary.rows, summary.errors) == (1, 0)
    assert b"caf?.png" in output.read_bytes()
    (folder / os.fsdecode(b"caf\xe9.txt")).write_text("tin rose")
    output = tmp_path / f"texts{suffix}"
    summary = await score(Job("topics"), folder, output, settings)
    assert (summary.rows, summary.errors) == (1, 0)
    assert b"caf?.txt" in output.read_bytes()


async def test_images_of_a_table(settings: Settings, tmp_path: Path):
    (tmp_path / "red.png").write_bytes(encode(solid("red")))
    images = [{"bytes": encode(solid("blue")), "path": None}, {"bytes": None, "path": "red.png"}, None]
    pq.write_table(pa.table({"img": images}), tmp_path / "in.parquet")
    await score(Job("classifier", column="img"), tmp_path / "in.parquet", tmp_path / "out.jsonl", settings)
    rows = rows_of(tmp_path / "out.jsonl")
    assert [row["labels"][0]["label"] for row in rows[:2]] == ["blue", "red"]
    assert "neither the bytes of an image nor the path" in rows[2]["error"]


async def test_a_csv_file_of_texts_becomes_one_with_ids_and_labels(settings: Settings, tmp_path: Path):
    """The column of the texts is the only one that fits; a column with a name of the output's is renamed."""
    source = tmp_path / "in.tsv"
    source.write_text(
        "id\tlabel\treview\n7\tplants\tthe oak and a fern\n7\tanimals\ta cat or some dog\n9\tplants\n\tplants\t"
        '"a ""fern""\nby the oak"\n'
    )
    said: list[str] = []
    summary = await score(Job("topics"), source, tmp_path / "out.csv", settings, say=said.append)
    assert (summary.rows, summary.errors) == (4, 1)
    assert said == ["texts are read from the column 'review' (--column names another one)"]
    with (tmp_path / "out.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0])[:5] == ["row", "id", "input_label", "label", "probability"]
    assert [row["row"] for row in rows] == ["0", "1", "2", "3"]
    assert [row["id"] for row in rows] == ["7", "7", "9", ""]
    assert [row["label"] for row in rows] == ["plants", "animals", "", "plants"]
    assert [row["input_label"] for row in rows] == ["plants", "animals", "plants", "plants"]
    assert rows[2]["error"] == "Invalid request: The row has 2 cells, not 3."
    await score(Job("topics", keep=("review",)), source, tmp_path / "kept.jsonl", settings)
    kept = rows_of(tmp_path / "kept.jsonl")
    assert kept[3]["review"] == 'a "fern"\nby the oak'
    assert "id" not in kept[3]


async def test_the_column_that_the_training_read(models: Path, settings: Settings, tmp_path: Path):
    path = models / "reviews" / "1" / "manifest.json"
    shutil.copytree(models / "topics" / "1", path.parent)
    path.write_text(json.dumps({**json.loads(path.read_text()), "name": "reviews", "text_column": "body"}))
    (tmp_path / "in.csv").write_text("text,body\noak,cat\n")
    await score(Job("reviews"), tmp_path / "in.csv", tmp_path / "out.jsonl", settings)
    (row,) = rows_of(tmp_path / "out.jsonl")
    assert (row["text"], row["label"]) == ("oak", "animals")


async def test_a_table_of_paths_names_each_file(settings: Settings, tmp_path: Path):
    (tmp_path / "red.png").write_bytes(encode(solid("red")))
    (tmp_path / "bad.png").write_bytes(b"damaged")
    (tmp_path / "in.csv").write_text("patient;file\na;red.png\nb;bad.png\nc;no.png\n")
    await score(Job("classifier"), tmp_path / "in.csv", tmp_path / "out.jsonl", settings)
    rows = rows_of(tmp_path / "out.jsonl")
    assert [(row["patient"], row["name"]) for row in rows] == [("a", "red.png"), ("b", "bad.png"), ("c", "no.png")]
    assert [bool(row["error"]) for row in rows] == [False, True, True]


async def test_parquet_keeps_the_types_of_what_it_carries(settings: Settings, tmp_path: Path):
    moment = datetime.datetime(2026, 11, 30, 12, 0, 0)
    table = pa.table(
        {
            "text": ["oak", "cat"],
            "id": pa.array([1, None], pa.int32()),
            "when": pa.array([moment, moment], pa.timestamp("ns")),
            "kind": pa.array(["a", "b"]).dictionary_encode(),
            "vector": [[1.0], [2.0]],
        }
    )
    pq.write_table(table, tmp_path / "in.parquet")
    await score(Job("topics"), tmp_path / "in.parquet", tmp_path / "out.parquet", settings)
    found = pq.read_table(tmp_path / "out.parquet")
    assert found.schema.field("id").type == pa.int32()
    assert found.column("id").to_pylist() == [1, None]
    assert found.column("when").to_pylist() == [moment, moment]
    assert found.column("kind").to_pylist() == ["a", "b"]
    assert "vector" not in found.schema.names
    assert found.column("label").to_pylist() == ["plants", "animals"]


async def test_text_files_of_a_folder(settings: Settings, tmp_path: Path):
    (tmp_path / "in" / "more").mkdir(parents=True)
    (tmp_path / "in" / "a.txt").write_text("the oak")
    (tmp_path / "in" / "more" / "b.TXT").write_bytes(b"caf\xe9")
    (tmp_path / "in" / "more" / "c.png").touch()
    await score(Job("topics"), tmp_path / "in", tmp_path / "out.csv", settings)
    with (tmp_path / "out.csv").open(newline="") as file:
        good, bad = csv.DictReader(file)
    assert (good["name"], good["label"], bad["name"]) == ("a.txt", "plants", "more/b.TXT")
    assert bad["error"] == "Invalid request: It is not in UTF-8."


async def test_an_input_without_rows(settings: Settings, tmp_path: Path):
    (tmp_path / "in.csv").write_text("id,text\n")
    (tmp_path / "in.jsonl").write_text("")
    for source in ("in.csv", "in.jsonl"):
        for suffix in (".csv", ".tsv", ".jsonl", ".parquet"):
            output = tmp_path / f"{source}{suffix}"
            assert (await score(Job("topics"), tmp_path / source, output, settings)).rows == 0
            assert output.exists()
    assert (tmp_path / "in.csv.csv").read_text().startswith("row,id,label,probability,")


async def test_texts(settings: Settings, tmp_path: Path):
    texts = ["oil prices rose", "", "grain", " ", "oil"]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps({"id": 1, "text": text}) + "\n" for text in texts))
    await score(Job("topics"), tmp_path / "in.jsonl", tmp_path / "out.jsonl", settings)
    rows = rows_of(tmp_path / "out.jsonl")
    assert [row["row"] for row in rows if row["error"]] == [1, 3]
    good = [
        {name: row[name] for name in ("labels", "tokens", "unknown", "cut_off")} for row in rows if not row["error"]
    ]
    assert good == await served(settings, "/v1/classify-text", json={"texts": [texts[0], texts[2], texts[4]]})


async def test_rows_and_latents(settings: Settings, tmp_path: Path):
    manifest = BUILT_IN.read_manifest(settings.models / "tabular" / "1")
    names = [column.name for column in manifest.columns]  # type: ignore[attr-defined]
    rows: list[dict[str, Any]] = [dict.fromkeys(names, value) for value in (1.5, -2.0, 0.25)]
    cells = [",".join([*names, "id"]), *(",".join([*map(str, row.values()), "x"]) for row in rows)]
    (tmp_path / "in.csv").write_text("\n".join([*cells[:3], ",".join(["x"] * (len(names) + 1)), cells[3]]))
    await score(Job("tabular"), tmp_path / "in.csv", tmp_path / "out.parquet", settings)
    found = rows_of(tmp_path / "out.parquet")
    bad = found.pop(2)
    assert bad["error"].startswith(f"Invalid request: column '{names[0]}': 'x' is not a number")
    expected = await served(settings, "/v1/predict-tabular", json={"rows": rows})
    assert [row["labels"] for row in found] == [row["labels"] for row in expected]
    latents = BUILT_IN.read_manifest(settings.models / "decoder" / "1").latent  # type: ignore[attr-defined]
    pq.write_table(pa.table({"latents": [[0.1] * latents, [0.2]]}), tmp_path / "in.parquet")
    await score(Job("decoder"), tmp_path / "in.parquet", tmp_path / "decoded.parquet", settings)
    decoded = rows_of(tmp_path / "decoded.parquet")
    assert decoded[0]["png"]
    assert decoded[1]["error"]


def test_every_result_has_a_place_in_a_table():
    for _, operation in BUILT_IN.operations():
        if isinstance(operation.reads, Images) or operation.reads.records:
            assert "row" in Parquet(operation, {}, Layout(2)).schema.names


async def test_what_cannot_be_done_is_said_before_anything_is(settings: Settings, tmp_path: Path):
    (tmp_path / "in.csv").write_text("a,b\n1,2\n")
    for job, why in (
        (Job("nobody"), "There is no model 'nobody'"),
        (Job("classifier/7"), "There is no version '7' of classifier: there are 1"),
        (Job("classifier", "generate"), "cannot generate; it can predict"),
        (
            Job("topics", options=(("top", "1"),)),
            r"There is no option top: did you mean top_k\?",
        ),
        (Job("tabular", column="a"), "reads several columns"),
    ):
        with pytest.raises(UnusableJob, match=why):
            await score(job, tmp_path / "in.csv", tmp_path / "out.jsonl", settings)
    for job, why in (
        (Job("topics"), "in.csv: lacks the column text; it has a, b"),
        (Job("classifier"), "in.csv: lacks the column image"),
    ):
        with pytest.raises(UnusableInput, match=why):
            await score(job, tmp_path / "in.csv", tmp_path / "out.jsonl", settings)
    assert not (tmp_path / "out.jsonl").exists()
    assert not (tmp_path / "out.jsonl.parts").exists()


async def test_what_was_cut_short_goes_on(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "PART_ROWS", 64)
    texts = tmp_path / "in.jsonl"
    texts.write_text(
        "".join(json.dumps({"text": f"oil number {row}" if row % 9 else ""}) + "\n" for row in range(5000))
    )

    async def run(output: Path, stop_after: int) -> Summary:
        def progress(done: int, total: int) -> None:
            assert total == 5000
            if done >= stop_after:
                task.cancel()

        task = asyncio.create_task(score(Job("topics"), texts, output, settings, progress=progress))
        return await task

    whole, output = tmp_path / "whole.parquet", tmp_path / "out.parquet"
    await run(whole, 10_000)
    lines = tmp_path / "out.csv"
    with pytest.raises(asyncio.CancelledError):
        await run(lines, 1000)
    assert (await run(lines, 10_000)).resumed
    with lines.open(newline="") as file:
        assert [row["row"] for row in csv.DictReader(file)] == list(map(str, range(5000)))
    for stop_after in (512, 2000):
        with pytest.raises(asyncio.CancelledError):
            await run(output, stop_after)
        assert not output.exists()
    summary = await run(output, 10_000)
    assert summary.rows == 5000
    assert 2000 <= summary.resumed < 5000
    assert pq.read_table(output).equals(pq.read_table(whole))
