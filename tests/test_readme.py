"""README.ko.md says in Korean what README.md says: the same commands, names and links, in as many sections."""

import re
from collections import Counter

from tests.server import ROOT

ENGLISH = (ROOT / "README.md").read_text()
KOREAN = (ROOT / "README.ko.md").read_text()
FENCE = re.compile(r"```(\w+)\n(.*?)```", re.DOTALL)


def blocks(text: str) -> list[tuple[str, str]]:
    """The blocks of code; what a shell's comment says may be translated."""
    return [
        (language, re.sub(r"\s+#.*", "", block) if language == "sh" else block)
        for language, block in FENCE.findall(text)
    ]


def links(text: str) -> Counter[str]:
    prose = FENCE.sub("", text)
    return Counter(re.findall(r"\]\(([^)]+)\)", prose) + re.findall(r"(?<!\()\bhttps?://[\w.:/-]+", prose))


def names(text: str) -> Counter[str]:
    return Counter(re.findall(r"`([^`\n]+)`", FENCE.sub("", text)))


def test_the_commands_are_the_same():
    assert blocks(KOREAN) == blocks(ENGLISH)
    assert names(KOREAN) == names(ENGLISH)


def test_the_links_are_the_same_but_for_the_language():
    korean = Counter(link.replace("docs/course/ko/", "docs/course/") for link in links(KOREAN).elements())
    assert korean - Counter(["README.md"]) == links(ENGLISH) - Counter(["README.ko.md"])
    for target in links(ENGLISH) | links(KOREAN):
        assert target.startswith("http") or (ROOT / target.partition("#")[0]).exists(), target


def test_there_are_as_many_sections():
    sections = [len(re.findall(r"^#+ ", FENCE.sub("", text), re.MULTILINE)) for text in (ENGLISH, KOREAN)]
    assert sections[0] == sections[1]
