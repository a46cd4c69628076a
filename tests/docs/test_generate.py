"""The generated parts of the documents are current, and complete."""

import re
from pathlib import Path

import pytest

from docs.generate import commands, metrics, options
from docs.generate.parts import PAGES, PARTS, filled
from docs.generate.tables import table, with_code
from quartet.command_line import COMMANDS
from service.app import create_app
from service.settings import PREFIX, Settings
from tests.server import ROOT
from tests.tiny import write_model
from training.registry import RECIPES


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_generated_parts_are_current(page: Path):
    text = page.read_text()
    assert filled(text) == text, "run: python -m docs.generate"
    for kind in ("generated", "results"):
        assert text.count(f"<!-- {kind}: ") == text.count(f"<!-- end of {kind} -->")


def test_every_part_is_in_a_document():
    documents = "".join(page.read_text() for page in PAGES)
    assert [name for name in PARTS if f"<!-- generated: {name} -->" not in documents] == []


def test_a_part_that_is_out_of_date_is_replaced():
    page = "Before.\n\n<!-- generated: settings -->\nOut of date.\n<!-- end of generated -->\n\nAfter.\n"
    new = filled(page)
    assert "Out of date." not in new
    assert new.startswith("Before.")
    assert new.endswith("After.\n")
    for name in Settings.model_fields:
        assert f"`{PREFIX}{name.upper()}`" in new
    with pytest.raises(KeyError):
        filled(page.replace("settings", "poems"))


async def test_every_metric_is_described(tmp_path: Path):
    """Those of a server with a model; a metric of several processes or of a GPU needs these."""
    write_model(tmp_path)
    app = create_app(Settings(models=tmp_path, device="cpu"))
    async with app.router.lifespan_context(app):
        app.measure()
        families = {family.name for family in app.metrics.registry.collect() if family.name.startswith("quartet_")}
    described = {each.name.removesuffix("_total").removesuffix("_info") for each in metrics.described()}
    assert {name.removesuffix("_info") for name in families} <= described
    assert metrics.REMEDIES.keys() <= {each.name for each in metrics.described()}


def test_a_metric_has_its_labels():
    found = {each.name: each.labels for each in metrics.described()}
    assert found["quartet_problems_total"] == ("route", "problem")
    assert found["quartet_key_expiry_timestamp_seconds"] == ("key",)
    assert found["quartet_build_info"] == ("version", "python", "onnxruntime")
    assert found["quartet_worker_starts_total"] == ("worker",)
    assert "| `quartet_dropped_total` | counter by version …, reason |" in metrics.in_markdown()


def test_every_command_is_described():
    text = commands.in_markdown()
    for name in COMMANDS.keys() - {"train", "inspect"}:
        assert f"### quartet {name}" in text
    assert "| `--if-agreement SHARE` |" in text
    assert "| `-o, --option NAME=VALUE` |" in text
    assert text.count("`--server URL`") == 5  # of models, predict, feedback and replay, and once for all verbs


def test_every_recipe_is_described():
    text = options.recipes_in_markdown()
    for task, entry in RECIPES.items():
        assert f"## {task}\n" in text or not entry.options.startswith("training.")
    assert "| `--flip, --no-flip` | on | mirror images left to right; not for digits and letters |" in text
    assert "| `--widths N,…` | `64,256,256` | filters of each group of the CNN |" in text
    assert text.count("| `--resume` |") == 1


def test_cells_and_names_are_escaped():
    assert table(("a", ""), [("x|y", "`b`")]) == "| a |  |\n|---|---|\n| x\\|y | `b` |\n"
    assert with_code("set QUARTET_PORT=1 or `QUARTET_HOST`; --no-wait ends it") == (
        "set `QUARTET_PORT=1` or `QUARTET_HOST`; `--no-wait` ends it"
    )


def links(page: Path) -> list[str]:
    return re.findall(r"\]\(([\w/-]+\.md)\)", page.read_text())


def test_the_first_page_lists_all_others():
    folder = ROOT / "docs"
    # The course has contents of its own.
    pages = [str(page.relative_to(folder)) for page in PAGES if folder / "course" not in page.parents]
    assert sorted(["README.md", *links(folder / "README.md")]) == sorted([*pages, "course/README.md"])


@pytest.mark.parametrize("folder", [ROOT / "docs" / "course", ROOT / "docs" / "course" / "ko"], ids=str)
def test_the_course_lists_its_sections_in_order(folder: Path):
    assert [name for name in links(folder / "README.md") if name[0].isdigit()] == sorted(
        page.name for page in folder.glob("[0-9]-*.md")
    )
