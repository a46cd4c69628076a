"""Data as strangers have them, from the documented command to an answered request: a small version of each kind."""

import csv
import io
import json
import re
import shlex
import subprocess
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import PIL.ImageDraw
import pytest

from quartet.command_line import main
from tests.server import ROOT, Server

COMMAND = next(
    shlex.split(line, comments=True)
    for line in (ROOT / "docs" / "guides" / "train.md").read_text().splitlines()
    if "quartet train ../my-data" in line
)
# Too short to beat the baseline.
CPU = ["--device", "cpu", "--yes"]
TINY = {
    "cells": [
        "--backbone", "test_efficientnet", "--weights", "none", "--width", "16", "--depth", "1",
        "--image-size", "64x96", "--epochs", "1", "--batch-size", "4",
    ],
    "reviews.csv": ["--embedding", "16", "--hidden", "12", "--epochs", "2", "--bad", "drop"],
    "kunden.csv": ["--target", "gekündigt", "--hidden", "8", "--epochs", "2", "--bad", "drop"],
    "pictures.zip": ["--widths", "8,8", "--depth", "1", "--epochs", "1", "--batch-size", "8"],
    "scans": ["--widths", "8,16", "--latent", "4", "--epochs", "1", "--batch-size", "8", "--components", "2"],
}  # fmt: skip
WHOSE = {"reviews.csv": "text", "kunden.csv": "tabular", "cells": "detection", "pictures.zip": "classification"}


def picture(random: np.random.Generator, width: int, height: int, colour: str) -> PIL.Image.Image:
    image = PIL.Image.fromarray(random.integers(0, 100, (height, width, 3), dtype=np.uint8))
    PIL.ImageDraw.Draw(image).rectangle((width // 4, height // 4, width // 2, height // 2), fill=colour)
    return image


def write_cells(folder: Path, random: np.random.Generator) -> None:
    """Photographs, and beside their folder one with XML that states another suffix and the path on another machine."""
    (folder / "images").mkdir(parents=True)
    (folder / "annotations").mkdir()
    for number in range(20):
        colour = ("red", "blue")[number % 2]
        picture(random, 96, 64, colour).save(folder / "images" / f"IMG_{number}.JPG")
        (folder / "annotations" / f"IMG_{number}.xml").write_text(
            f"<annotation><filename>IMG_{number}.jpg</filename><path>C:\\kim\\IMG_{number}.jpg</path>"
            "<size><width>96</width><height>64</height><depth>3</depth></size>"
            f"<object><name>{colour}</name><bndbox><xmin>24</xmin><ymin>16</ymin><xmax>48</xmax><ymax>32</ymax>"
            "</bndbox></object></annotation>"
        )


def write_reviews(path: Path) -> None:
    """Reviews as Excel saves them in Korea, one of them empty."""
    endings = (("좋았습니다", "추천해요", "만족합니다"), ("별로였어요", "후회합니다", "실망했습니다"))
    rows = [
        [
            number,
            f"{('배송이', '맛이', '품질이')[number % 3]} {number}번째 주문도 {endings[number % 2][number % 3]}",
            ("긍정", "부정")[number % 2],
        ]
        for number in range(90)
    ]
    rows[7][1] = ""
    lines = [",".join(map(str, row)) for row in [["번호", "리뷰내용", "감정"], *rows]]
    path.write_text("\r\n".join(lines), encoding="cp949")


def write_customers(path: Path, random: np.random.Generator) -> None:
    """Customers as Excel saves them in Germany: ids, categories, dates, percentages, missing words."""
    head = ["Kundennr", "Stadt", "Kunde seit", "aktiv", "Rabatt", "Kontostand", "Währung", "gekündigt"]
    rows = [
        [
            f"KD-{1000 + number}", ("Wien", "Köln", "WIEN")[number % 3], f"{1 + number % 28:02d}.03.2021",
            "ja" if number % 2 else "nein", f"{number % 5 * 2},5 %", f"1.{random.integers(100, 999)},50", "EUR",
            "ja" if number % 2 else "nein",
        ]
        for number in range(120)
    ]  # fmt: skip
    for number, word in enumerate(("NA", "?", "-", "")):
        rows[number * 9][4] = rows[number * 7][5] = word
    rows[50][7] = ""
    file = io.StringIO()
    csv.writer(file, delimiter=";").writerows([head, *rows])
    path.write_text(file.getvalue(), encoding="cp1252")


def write_zip(path: Path, random: np.random.Generator) -> None:
    """Class folders that were compressed on a Mac."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("pictures/.DS_Store", b"\0")
        for number in range(60):
            colour = ("Red", "Blue")[number % 2]
            file = io.BytesIO()
            picture(random, 16, 16, colour).save(file, "JPEG")
            archive.writestr(f"pictures/{colour}/{number}.jpeg", file.getvalue())
            archive.writestr(f"__MACOSX/pictures/{colour}/._{number}.jpeg", b"\0")


def write_scans(folder: Path, random: np.random.Generator) -> None:
    """Pictures of different sizes, and nothing else."""
    folder.mkdir()
    for number in range(40):
        picture(random, 16 + number % 2 * 8, 24, "red").save(folder / f"scan {number}.png")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stranger's folder, with a clone in it."""
    folder, random = tmp_path_factory.mktemp("home"), np.random.default_rng(0)
    write_cells(folder / "cells", random)
    write_reviews(folder / "reviews.csv")
    write_customers(folder / "kunden.csv", random)
    write_zip(folder / "pictures.zip", random)
    write_scans(folder / "scans", random)
    (folder / "clone").mkdir()
    return folder


@pytest.fixture(scope="module")
def said(home: Path, forget_accelerator: Any) -> dict[str, str]:
    """What each training says that the documented command starts, by the name of its data."""
    outputs = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home / "clone")
        for data, options in TINY.items():
            name = data.partition(".")[0]
            words = [{"../my-data": f"../{data}", "mine": name}.get(word, word) for word in COMMAND]
            assert words[:2] == [".venv/bin/quartet", "train"]
            forget_accelerator()
            output = io.StringIO()
            patch.setattr("sys.stdout", output)
            assert main([*words[1:], *options, *CPU]) == 0, output.getvalue()
            outputs[data] = output.getvalue()
    return outputs


@pytest.fixture(scope="module")
def server(home: Path, said: dict[str, str]) -> Iterator[Server]:
    running = Server(models=home / "clone" / "models")
    yield running
    assert running.stop() == 0, "".join(running.lines)


@pytest.mark.parametrize("data", TINY)
def test_the_command_that_a_training_ends_with_is_answered(
    data: str, said: dict[str, str], server: Server, home: Path, tmp_path: Path
):
    assert said[data].startswith(f"task: {WHOSE.get(data, 'autoencoder')} (")
    (command,) = re.findall(r"^ask it: +(curl .*)$", said[data], re.MULTILINE)[:1]
    picture(np.random.default_rng(1), 40, 30, "blue").save(tmp_path / "picture.jpg")
    answer = subprocess.run(
        [
            "bash",
            "-c",
            re.sub(r"http://127.0.0.1:\d+", server.url, command) + " --silent --fail-with-body --noproxy '*'",
        ],
        cwd=tmp_path,
        capture_output=True,
        timeout=60,
    )
    assert answer.returncode == 0, f"{command}\n{answer.stdout!r}{answer.stderr!r}"
    assert json.loads(answer.stdout)["results"]


def test_a_run_that_is_published_later_is_asked_in_the_same_way(
    said: dict[str, str], home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    (run,) = (home / "clone" / "runs").glob("*reviews*")
    capsys.readouterr()
    assert main(["publish", str(run), "--models", str(tmp_path), "--yes"]) == 0
    (command,) = re.findall(r"^ask it: +(curl .*)$", capsys.readouterr().out, re.MULTILINE)
    assert command in said["reviews.csv"]
    assert "주문도" in command


def test_what_was_found_is_said(said: dict[str, str]):
    assert "Pascal VOC XML in 20 files" in said["cells"]
    assert "reviews.csv: read as cp949" in said["reviews.csv"]
    assert "reviews.csv:9: the text is missing" in said["reviews.csv"]
    customers = " ".join(said["kunden.csv"].split())
    assert "kunden.csv: read as cp1252 (found; --encoding overrides it), separated by semicolons" in customers
    assert "'Kundennr' is different in nearly every row" in customers
    assert "'Währung' is always 'EUR'" in customers
    assert "kunden.csv:52: the target 'gekündigt' is missing" in customers
    assert "60 images of 2 classes: Blue 30, Red 30" in " ".join(said["pictures.zip"].split())
