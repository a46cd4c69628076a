"""The Korean edition of the course says what the English one says; exercises are complete."""

import re
from pathlib import Path

import pytest

from tests.server import ROOT
from tests.test_figures import CODE, NUMBER

ENGLISH = ROOT / "docs" / "course"
KOREAN = ENGLISH / "ko"
FENCE = re.compile(r"```(\w+)\n(.*?)```", re.DOTALL)
SECTIONS = sorted(path.name for path in ENGLISH.glob("[0-9]-*.md"))
TRANSLATED = sorted(path.name for path in KOREAN.glob("*.md"))


def parts(page: Path) -> dict[str, object]:
    """What both editions have in common."""
    text = page.read_text()
    prose = FENCE.sub("", text)
    return {
        "comments": re.findall(r"<!-- .*? -->", text),
        "pictures": [(page.parent / path).resolve() for path in re.findall(r"!\[[^]]*\]\(([^) ]+)", prose)],
        "commands": [code for language, code in FENCE.findall(text) if language in ("sh", "python")],
        "blocks": [language for language, _ in FENCE.findall(text)],
        "headings": re.findall(r"^#+(?= )", prose, re.MULTILINE),
        "answers": len(re.findall(r"^ *<details><summary>", prose, re.MULTILINE)),
        "rows": len(re.findall(r"^\|", prose, re.MULTILINE)),
    }


def figures(page: Path) -> set[str]:
    """Numbers with decimals; others are spelt in one language and not in the other."""
    prose = re.sub(r"\]\([^)]*\)|<!-- .*? -->", "", CODE.sub("", page.read_text()))
    return {found[1] for found in NUMBER.finditer(prose) if "." in found[1]}


@pytest.mark.parametrize("name", TRANSLATED)
def test_the_korean_edition_has_the_same_parts(name: str):
    assert parts(KOREAN / name) == parts(ENGLISH / name)
    assert figures(KOREAN / name) == figures(ENGLISH / name)


@pytest.mark.parametrize("name", SECTIONS)
def test_a_section_has_exercises_with_answers_and_its_notebook(name: str):
    text = (ENGLISH / name).read_text()
    assert "\n## Run it\n" in text
    assert f"examples/course/{name.removesuffix('.md')}.ipynb" in text
    exercises = text.partition("\n## Exercises\n")[2]
    assert len(re.findall(r"^\d\. \*\*", exercises, re.MULTILINE)) == exercises.count("<details><summary>") == 3
