import gzip
import json
import re
from pathlib import Path

import pytest

from service.errors import QuartetError
from service.web.bundle import Asset, Bundle

STATIC = Path(__file__).parents[3] / "service" / "web" / "static"
LEARN = STATIC.with_name("learn")


def sizes(assets: dict[str, Asset], *, packed: bool = False) -> int:
    return sum(len(each.packed if packed else each.content) for each in assets.values())


def test_every_file_is_in_the_bundle_and_small():
    bundle = Bundle()
    on_disk = {str(path.relative_to(STATIC)) for path in STATIC.rglob("*") if path.is_file()}
    on_disk |= {f"learn/{path.relative_to(LEARN)}" for path in LEARN.rglob("*") if path.is_file()}
    assert set(bundle.assets) == on_disk - {"index.html"}
    others = {path: asset for path, asset in bundle.assets.items() if not is_of_course(path)}
    assert sizes(others) < 310_000
    for asset in bundle.assets.values():
        assert asset.packed is asset.content or gzip.decompress(asset.packed) == asset.content


def is_of_course(path: str) -> bool:
    return path.startswith(("js/learn/", "css/learn", "learn/"))


def test_the_course_is_small():
    """All of its code, and what a reader of its longest section loads of text and pictures."""
    assets = {path: asset for path, asset in Bundle().assets.items() if is_of_course(path)}
    code = {path: asset for path, asset in assets.items() if not path.startswith("learn/")}
    text = {path: asset for path, asset in assets.items() if path.endswith((".html", ".json"))}
    pictures = {path: asset for path, asset in assets.items() if path not in code | text}
    assert sizes(code) < 110_000
    assert sizes(text, packed=True) < 160_000
    assert sizes(pictures) < 3_000_000
    for path, asset in text.items():
        assert len(asset.packed) < 16_000, path
        shown = set(re.findall(r'src="(learn/[^"]+)"', asset.content.decode()))
        assert sum(len(pictures[each].content) for each in shown) < 1_000_000, path


def test_a_page_of_the_course_names_what_it_needs_and_no_more():
    bundle = Bundle()
    index = bundle.index("../", learn=True).content.decode()
    modules = set(re.findall(r'modulepreload" href="\.\./web/\w+/([^"]+)"', index))
    assert {"js/main.js", "js/learn/page.js", "js/learn/panels.js", "js/dom.js"} <= modules
    # Panels come when they are scrolled to.
    assert not [each for each in modules if each.startswith("js/panels/")]
    assert not modules & {"js/learn/xor.js", "js/learn/iou.js", "js/learn/typicality.js"}
    assert set(re.findall(r'stylesheet" href="\.\./web/\w+/(css/learn[^"]*)"', index)) >= {"css/learn.css"}
    assert "css/learn" not in bundle.index("./").content.decode()


def test_sections_have_texts_in_both_languages():
    contents = json.loads((LEARN / "contents.json").read_text())
    assert Bundle().sections == set(contents["en"]) - {"index"}
    for language, titles in contents.items():
        assert {path.stem for path in (LEARN / language).glob("*.html")} == set(titles)
        assert list(titles) == list(contents["en"])


def test_the_page_names_every_module_that_it_will_need():
    index = Bundle().index("./").content.decode()
    preloaded = set(re.findall(r'modulepreload" href="\./web/\w+/(js/[^"]+)"', index))
    modules = {str(path.relative_to(STATIC)) for path in STATIC.rglob("*.js")}
    # What a worker runs is no module of the page, and those of the course are loaded with it.
    assert preloaded == {module for module in modules if not module.startswith(("js/live/", "js/learn/"))}
    assert "{base}" not in index
    assert "{root}" not in index


def test_a_changed_file_changes_the_address(tmp_path: Path):
    (tmp_path / "js").mkdir()
    (tmp_path / "index.html").write_text('<script src="{base}js/main.js"></script>')
    (tmp_path / "js" / "main.js").write_text("one();")
    before = Bundle(tmp_path)
    (tmp_path / "js" / "main.js").write_text("two();")
    after = Bundle(tmp_path)
    assert before.digest != after.digest
    assert f"../../web/{after.digest}/js/main.js" in after.index("../../").content.decode()


def texts(language: str, folder: str = "texts") -> dict[str, str]:
    source = (STATIC / "js" / folder / f"{language}.js").read_text()
    pairs = re.findall(r'^ {2}"([\w.-]+)":\s+"((?:[^"\\]|\\.)*)",$', source, re.MULTILINE)
    assert len(dict(pairs)) == len(pairs) == source.count('\n  "'), "each text is there once"
    return dict(pairs)


@pytest.mark.parametrize("folder", ["texts", "learn/texts"])
def test_the_languages_say_the_same(folder: str):
    english, korean = texts("en", folder), texts("ko", folder)
    # The server's sentences and the cards are English already.
    assert all(key.startswith(("card-", "problem.")) for key in set(korean) - set(english))
    assert set(english) <= set(korean)
    for key, text in english.items():
        assert set(re.findall(r"\{(\w+)\}", text)) == set(re.findall(r"\{(\w+)\}", korean[key])), key
        words = re.search("[A-Za-z]{2}", re.sub(r"\{\w+\}", "", text))
        assert not words or re.search("[가-힣]", korean[key]), f"{key} is not translated"


def test_every_failure_has_a_korean_sentence():
    # The page has its own sentences for these.
    others = {"unauthorized", "forbidden", "overloaded", "rate-limited", "not-ready"}
    slugs = {each.slug for each in (QuartetError, *QuartetError.__subclasses__())}
    assert {f"problem.{slug}" for slug in slugs - others} <= set(texts("ko"))


def test_every_text_is_used_and_every_used_text_exists():
    everything = "\n".join(path.read_text() for path in STATIC.rglob("*.js") if path.parent.name != "texts")
    english = texts("en") | texts("en", "learn/texts")
    used = set(re.findall(r"""\bt\(\s*["']([\w.-]+)["']""", everything))
    assert used <= set(english), used - set(english)
    quoted = set(re.findall(r"""["']([\w-]+\.[\w.-]+)["']""", everything))
    # Those whose names are made of parts: `nav.${id}`, `${id}.lead`.
    prefixes = re.findall(r"`((?:[\w-]+\.)+)\$\{", everything)
    suffixes = re.findall(r"\$\{\w+\}(\.\w+)`", everything)
    for key in english:
        assert key in used | quoted or key.startswith(tuple(prefixes)) or key.endswith(tuple(suffixes)), (
            f"{key} is unused"
        )


def test_every_imported_module_exists():
    for path in STATIC.rglob("*.js"):
        for imported in re.findall(r"""\b(?:from|import)[ (]["'](\.{1,2}/[^"']+)["']""", path.read_text()):
            assert (path.parent / imported).is_file(), f"{path.name} imports {imported}"
