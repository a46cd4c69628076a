"""The course's pages of the served page are made from its text, and are current."""

import json
import re
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from urllib.parse import unquote

import pytest
from PIL import Image

from docs.generate import learn
from docs.generate.learn import COURSE, TARGET, files, render
from tests.server import ROOT


@pytest.fixture(scope="module")
def made() -> dict[str, bytes]:
    return files()


def test_the_pages_are_current(made: dict[str, bytes]):
    on_disk = {path.relative_to(TARGET).as_posix(): path for path in TARGET.rglob("*") if path.is_file()}
    assert set(on_disk) == set(made), "run: python -m docs.generate"
    for path, content in made.items():
        assert on_disk[path].read_bytes() == content, f"{path} is out of date: run python -m docs.generate"


def test_every_page_has_its_title_and_its_order(made: dict[str, bytes]):
    contents = json.loads(made["contents.json"])
    assert list(contents["en"]) == ["index", *sorted(path.stem for path in COURSE.glob("[0-9]*.md"))]
    assert contents["en"]["2-convolution"].startswith("2. ")


class Tags(HTMLParser):
    """Collects elements with their attributes, and checks that they are closed."""

    VOID = ("img", "br", "hr")

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


PAGES = sorted(path.relative_to(TARGET).as_posix() for path in TARGET.rglob("*.html"))


@pytest.mark.parametrize("path", PAGES)
def test_a_page_is_sound(path: str, made: dict[str, bytes]):
    tags = Tags()
    tags.feed(made[path].decode())
    tags.close()
    assert tags.open == []
    ids = [attributes["id"] for _, attributes in tags.found if "id" in attributes]
    assert len(set(ids)) == len(ids)
    assert [tag for tag, _ in tags.found].count("h1") == 1
    levels = [int(tag[1]) for tag, _ in tags.found if re.fullmatch(r"h\d", tag)]
    assert all(later <= earlier + 1 for earlier, later in pairwise(levels))
    for tag, attributes in tags.found:
        assert tag not in ("script", "style", "iframe")
        assert not [name for name in attributes if name == "style" or name.startswith("on")]
        if tag == "img":
            assert attributes["alt"]
            assert attributes["src"].removeprefix("learn/") in made
            assert int(attributes["width"]) > 0 < int(attributes["height"])
            assert attributes["loading"] == "lazy"
        if tag == "a":
            check_link(attributes["href"], path.partition("/")[0], ids, made)


def check_link(target: str, language: str, ids: list[str], made: dict[str, bytes]) -> None:
    """A link to an anchor of this page, to another page or its anchor, to a committed model, or elsewhere."""
    page, _, anchor = unquote(target).partition("#")
    if not page:
        assert anchor in ids, target
    elif found := re.fullmatch(r"learn(?:/([\w-]+))?", page):
        text = made[f"{language}/{found[1] or 'index'}.html"].decode()
        assert not anchor or f'id="{anchor}"' in text, target
    elif found := re.fullmatch(r"models/([\w-]+)/(\d+)", page):
        assert (ROOT / "models" / found[1] / found[2] / "manifest.json").is_file()
    else:
        assert target.startswith("https://"), target


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Renders a text as if it were a section of the course."""
    monkeypatch.setattr(learn, "ROOT", tmp_path)
    monkeypatch.setattr(learn, "LANGUAGES", {"en": tmp_path / "docs" / "course"})
    folder = tmp_path / "docs" / "course"
    (folder / "study").mkdir(parents=True)
    Image.new("RGB", (30, 20)).save(folder / "study" / "a.png")
    for name in ("README.md", "1-other.md"):
        (folder / name).write_text("# Other\n")

    def rendered(text: str, title: str = "# 2. Here\n\n") -> str:
        (folder / "2-here.md").write_text(title + text)
        return render(folder / "2-here.md").html

    return rendered


def test_a_picture_becomes_a_figure(page):
    html = page('![A < B & *c*](study/a.png "What it shows")\n')
    assert (
        '<figure><img src="learn/files/study/a.png" alt="A &lt; B &amp; c" width="30" height="20" loading="lazy" '
        'decoding="async"><figcaption>What it shows</figcaption></figure>' in html
    )


def test_a_panel_stands_alone_or_in_place_of_a_picture(page):
    assert '<div data-panel="iou"></div>' in page("Before.\n\n<!-- panel: iou -->\n\nAfter.\n")
    html = page("<!-- panel: threshold instead -->\n![A](study/a.png)\n\nAfter.\n")
    assert re.search(r'<div data-panel="threshold"><figure>.*</figure>\n</div>\n<p>After.</p>', html)


def test_comments_are_left_out_and_answers_are_folded(page):
    folded = "<details><summary>Answer</summary>\n\nYes, **it** is.\n\n</details>\n"
    html = page(f"<!-- figures: record.json -->\nIt is 3.\n\n{folded}")
    assert "<!--" not in html
    assert "<p>It is 3.</p>" in html
    assert "<details><summary>Answer</summary>\n<p>Yes, <strong>it</strong> is.</p>\n</details>" in html


def test_links_lead_to_what_the_page_has(page):
    html = page("[a](1-other.md#x) [b](README.md) [c](https://example.org/x) [d](study/a.png) [**e**](#2-here)\n")
    assert (
        '<p><a href="learn/1-other#x">a</a> <a href="learn">b</a> '
        '<a href="https://example.org/x" rel="noreferrer">c</a> d <a href="#2-here"><strong>e</strong></a></p>' in html
    )


def test_the_other_edition_is_named_and_not_linked(page, tmp_path: Path):
    (tmp_path / "docs" / "course" / "ko").mkdir()
    (tmp_path / "docs" / "course" / "ko" / "README.md").write_text("# 강의\n")
    assert "<p>Also in Korean.</p>" in page("Also in [Korean](ko/README.md).\n")


def test_tables_scroll_and_have_no_styles(page):
    html = page("|  | b |\n|---|--:|\n| 1 | 2 |\n")
    assert '<div class="scroll" tabindex="0" role="region">\n<table>' in html
    assert '<td></td>\n<th class="num">b</th>' in html
    assert '<td class="num">2</td>' in html
    assert "style" not in html


def test_what_leads_to_the_next_section_is_left_to_the_page(page):
    assert "Next" not in page("It is 3 %.\n\nNext: [1. Other](1-other.md)\n")
    assert "Other" in page("This needs what is said in [1. Other](1-other.md)\n")


def test_a_percentage_stays_in_one_line(page):
    assert "3\N{NO-BREAK SPACE}% of" in page("It is 3 % of them.\n")


def test_headings_get_the_ids_of_github(page):
    html = page("## Run it: `now`, again\n\n## 가중치와 편향\n\n## Run it: now, again\n")
    assert re.findall(r'id="([^"]+)"', html)[1:] == ["run-it-now-again", "가중치와-편향", "run-it-now-again-1"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("![](study/a.png)\n", "has no text"),
        ("![A](study/b.png)\n", "no file"),
        ("[a](3-absent.md)\n", "nowhere"),
        ("<script>go()</script>\n", "no HTML but details"),
        ("A <b>word</b>.\n", "no such HTML"),
        ("<!-- panel: iou instead -->\nText.\n", "replaces no picture"),
        ("<!-- panel: iou instead -->\n", "replaces no picture"),
        ("# Another title\n", "first headings"),
    ],
)
def test_what_the_page_could_not_show_is_an_error(page, text: str, said: str):
    with pytest.raises(ValueError, match=said):
        page(text)


def test_what_is_out_of_date_is_written_and_the_rest_is_not(tmp_path: Path):
    assert len(learn.write(tmp_path)) == len(files())
    (tmp_path / "en" / "old.html").write_text("old")
    (tmp_path / "contents.json").write_text("{}")
    assert {path.name for path in learn.write(tmp_path)} == {"old.html", "contents.json"}
    assert not (tmp_path / "en" / "old.html").exists()
    assert learn.write(tmp_path) == []
