"""Figures in documents are those of result files: benchmarks write them, and manifests of models are some too."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks import results
from docs.generate.parts import PAGES, filled
from tests.server import ROOT

# Pages whose measured figures all need a source.
STRICT = (
    "explanation/performance.md", "explanation/training.md", "guides/data.md", "guides/published.md", "guides/scale.md",
    "guides/tasks.md", "guides/train.md", "reference/committed-models.md",
)  # fmt: skip
MARKER = re.compile(r"<!-- figures: (.*?) -->\n")
SETTINGS = "settings"  # thresholds and the like, which nobody measures
NUMBER = re.compile(r"(?<![\w.])(\d[\d,]*(?:\.\d+)?)( ?%)?(?![\w.]*\d)")
# With two decimals, or a unit of what benchmarks measure.
_UNIT = r" (?:ms\b|times\b|(?:images|requests|items|frames)(?:/s| (?:a|per) second))"
MEASURED = re.compile(rf"(?<![\w.$/-])\d[\d,]*(?:\.\d\d+\b|(?:\.\d+)?{_UNIT})")
CODE = re.compile(r"```.*?```|`[^`\n]*`", re.DOTALL)


def marked(text: str) -> Iterator[tuple[list[str], str]]:
    """The sources of each marked paragraph or table, and its text."""
    for found in MARKER.finditer(text):
        yield found[1].split(), text[found.end() :].partition("\n\n")[0]


def unmarked(text: str) -> str:
    """What has no source: neither code, nor marked, nor the result of a benchmark."""
    text = re.sub(r"<!-- results: .*?<!-- end of results -->", "", text, flags=re.DOTALL)
    return CODE.sub("", re.sub(MARKER.pattern + r".*?(\n\n|\Z)", "\n\n", text, flags=re.DOTALL))


def numbers_in(value: object) -> Iterator[float]:
    """All numbers of a result, those in its strings too."""
    if isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from numbers_in(each)
    elif isinstance(value, str):
        yield from (float(found[1].replace(",", "")) for found in NUMBER.finditer(value))
    elif isinstance(value, int | float):
        yield float(value)


def record(path: Path) -> object:
    """What a result file says; of a report, such as one that only a README.md kept, its text."""
    text = path.read_text()
    return json.loads(text) if path.suffix == ".json" else text


def unsupported(text: str, known: list[float]) -> list[str]:
    """The figures of a text, with two significant digits or more, that are no rounded number of those known.

    Signs are not compared: a hyphen before a figure may be one.
    """
    missing = []
    known = [abs(value) for value in known]
    for found in NUMBER.finditer(CODE.sub("", text)):
        digits = found[1].replace(",", "")
        if len(digits.replace(".", "").lstrip("0")) < 2:
            continue
        decimals = len(digits.partition(".")[2])
        scale = 100 if found[2] else 1
        rounded = {round(scale * value, decimals) for value in known} | {round(value, decimals) for value in known}
        if float(digits) not in rounded:
            missing.append(found[0])
    return missing


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_marked_figures_are_those_of_their_result_files(page: Path):
    for sources, block in marked(page.read_text()):
        if sources == [SETTINGS]:
            continue
        known = [number for name in sources for number in numbers_in(record(ROOT / name))]
        assert not unsupported(block, known), f"{page}: not in {', '.join(sources)}"


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_results_are_those_of_a_benchmark(page: Path):
    assert all(name in results.COMMANDS for name in re.findall(r"<!-- results: (\w+) -->", page.read_text()))


@pytest.mark.parametrize("name", STRICT)
def test_measured_figures_have_a_source(name: str):
    assert not MEASURED.findall(unmarked((ROOT / "docs" / name).read_text()))


def test_a_figure_without_support_is_found():
    known = list(numbers_in({"accuracy": 0.91973, "text": "1234 images/s", "rows": [[2.5]]}))
    assert not unsupported("0.9197 or 91.97 %, 1,234 images/s at 8, 2.5 ms", known)
    assert unsupported("| 0.9198 | 92 % | 1,235 |", known) == ["0.9198", "1,235"]
    assert unsupported("91.98 %", known) == ["91.98 %"]
    assert not unsupported("from −0.35 to 0.35", [-0.35])
    page = "A page.\n\n<!-- figures: a.json b.json -->\nIn 2.5 ms.\n\nAlso 12 ms, and 0.25 of `0.75`.\n"
    assert list(marked(page)) == [(["a.json", "b.json"], "In 2.5 ms.")]
    assert MEASURED.findall(unmarked(page)) == ["12 ms", "0.25"]


def test_results_are_filled_into_documents(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "FOLDER", tmp_path)
    page = "Before.\n\n<!-- results: sizing -->\n<!-- end of results -->\n\nAfter.\n"
    assert "Not measured with this version yet: `python -m benchmarks.results sizing`." in filled(page)
    recorder = results.Recorder()
    table = results.Table(title="one core")
    table.add_column("model")
    table.add_column("items/s")
    table.add_row("classifier", "412")
    recorder.print(table)
    recorder.print("ready after 3.0 s")
    monkeypatch.setattr("sys.argv", ["sizing.py", "--rounds", "2", "--json", "somewhere"])
    recorder.write(tmp_path / "sizing.json", "benchmarks.sizing", {"rate": 412.3})
    written = json.loads((tmp_path / "sizing.json").read_text())
    assert written["command"] == "python -m benchmarks.sizing --rounds 2"
    assert written["figures"] == {"rate": 412.3}
    assert written["machine"]["processor"]
    shown = filled(page)
    assert "*one core*\n\n| model | items/s |\n|---|---|\n| classifier | 412 |\n\n- ready after 3.0 s\n" in shown
    assert f"{written['date']}, {written['machine']['cpus']} CPUs" in shown
    assert filled(shown) == shown
    assert shown.startswith("Before.")
    assert shown.endswith("After.\n")
