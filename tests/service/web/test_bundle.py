import gzip
import re
from pathlib import Path

from service.errors import QuartetError
from service.web.bundle import Bundle

STATIC = Path(__file__).parents[3] / "service" / "web" / "static"


def test_every_file_is_in_the_bundle_and_small():
    bundle = Bundle()
    on_disk = {str(path.relative_to(STATIC)) for path in STATIC.rglob("*") if path.is_file()}
    assert set(bundle.assets) == on_disk - {"index.html"}
    assert sum(len(asset.content) for asset in bundle.assets.values()) < 310_000
    for asset in bundle.assets.values():
        assert gzip.decompress(asset.packed) == asset.content


def test_the_page_names_every_module_that_it_will_need():
    index = Bundle().index("./").content.decode()
    preloaded = set(re.findall(r'modulepreload" href="\./web/\w+/(js/[^"]+)"', index))
    modules = {str(path.relative_to(STATIC)) for path in STATIC.rglob("*.js")}
    # What a worker runs is no module of the page.
    assert preloaded == {module for module in modules if not module.startswith("js/live/")}
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


def texts(language: str) -> dict[str, str]:
    source = (STATIC / "js" / "texts" / f"{language}.js").read_text()
    pairs = re.findall(r'^ {2}"([\w.-]+)":\s+"((?:[^"\\]|\\.)*)",$', source, re.MULTILINE)
    assert len(dict(pairs)) == len(pairs) == source.count('\n  "'), "each text is there once"
    return dict(pairs)


def test_the_languages_say_the_same():
    english, korean = texts("en"), texts("ko")
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
    english = texts("en")
    used = set(re.findall(r"""\bt\(\s*["']([\w.-]+)["']""", everything))
    assert used <= set(english), used - set(english)
    quoted = set(re.findall(r"""["']([\w-]+\.[\w.-]+)["']""", everything))
    # Those whose names are made of parts: `nav.${id}`, `${id}.lead`.
    prefixes = re.findall(r"`([\w-]+\.)\$\{", everything)
    suffixes = re.findall(r"\$\{\w+\}(\.\w+)`", everything)
    for key in english:
        assert key in used | quoted or key.startswith(tuple(prefixes)) or key.endswith(tuple(suffixes)), (
            f"{key} is unused"
        )


def test_every_imported_module_exists():
    for path in STATIC.rglob("*.js"):
        for imported in re.findall(r"""\b(?:from|import)[ (]["'](\.{1,2}/[^"']+)["']""", path.read_text()):
            assert (path.parent / imported).is_file(), f"{path.name} imports {imported}"
