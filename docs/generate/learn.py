"""Makes the course's pages of the served page: HTML of docs/course, and copies of the pictures that it shows.

The Markdown is CommonMark with tables, `<details>` and comments; anything else that HTML could do is an error, because
the page's content policy would not let it work. `<!-- panel: NAME -->` is where the page mounts a panel. With
`instead`, directly above a picture, the panel replaces the picture wherever its model is served.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from html import escape
from itertools import pairwise
from pathlib import Path
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.token import Token
from PIL import Image

ROOT = Path(__file__).parents[2]
COURSE = ROOT / "docs" / "course"
TARGET = ROOT / "service" / "web" / "learn"
LANGUAGES = {"en": COURSE, "ko": COURSE / "ko"}
CONTENTS = "README.md"
# What panels need beside their code.
PANEL_FILES: Mapping[str, tuple[Path, ...]] = {"ap": (COURSE / "ap" / "ap.json",)}
_PANEL = re.compile(r"<!-- panel: (?P<name>\w+)(?P<instead> instead)? -->$")
_COMMENT = re.compile(r"<!--.*?-->$", re.DOTALL)
_FOLDED = re.compile(r"(?:</?details>|<summary>.*</summary>|\s)+$")
_INLINE = re.compile(r"</?(?:sub|sup|kbd)>|<br ?/?>|<!--.*?-->$")
_CARD = re.compile(r"models/(?P<name>[\w-]+)/(?P<version>\d+)/report/README\.md$")
# Folders that say nothing about a picture: models/detector/1/report/overlap.jpg becomes detector/overlap.jpg.
_SILENT = re.compile(r"^(?:docs|course|models|report|\d+)$")
_ALIGNED = {"text-align:right": "num", "text-align:center": "middle"}


@dataclass
class Page:
    """A page of the course.

    Attributes:
        title: of its first heading.
        html: what stands inside the page's `article`.
        files: that it shows or that its panels read, by their path below the target.
    """

    title: str
    html: str
    files: dict[str, Path] = field(default_factory=dict)


def files() -> dict[str, bytes]:
    """Everything that belongs into the target, by path.

    Raises:
        ValueError: a page has what the served page could not show.
    """
    made: dict[str, bytes] = {}
    contents: dict[str, dict[str, str]] = {}
    sources: dict[str, Path] = {}
    for language, folder in LANGUAGES.items():
        contents[language] = {}
        for source in sorted(folder.glob("*.md"), key=lambda path: (path.name != CONTENTS, path.name)):
            page = render(source)
            name = _name(source)
            contents[language][name] = page.title
            made[f"{language}/{name}.html"] = page.html.encode()
            for path, file in page.files.items():
                if sources.setdefault(path, file) != file:
                    raise ValueError(f"{file} and {sources[path]} would both become {path}")
    made["contents.json"] = (json.dumps(contents, ensure_ascii=False, indent=1) + "\n").encode()
    return made | {path: file.read_bytes() for path, file in sources.items()}


def write(target: Path = TARGET) -> list[Path]:
    """Brings the target up to date and returns the paths that have changed."""
    wanted = files()
    changed = []
    for stale in [each for each in target.rglob("*") if each.is_file()]:
        if stale.relative_to(target).as_posix() not in wanted:
            stale.unlink()
            changed.append(stale)
    for path, content in wanted.items():
        file = target / path
        if not file.is_file() or file.read_bytes() != content:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
            changed.append(file)
    return changed


def render(source: Path) -> Page:
    """A page of the course as HTML.

    Raises:
        ValueError: it has what the served page could not show.
    """
    return _Renderer(source).page()


def _name(source: Path) -> str:
    return "index" if source.name == CONTENTS else source.stem


class _Renderer:
    """Renders one page; problems name its file and line."""

    def __init__(self, source: Path) -> None:
        self._source = source
        self._files: dict[str, Path] = {}
        self._markdown = MarkdownIt("commonmark").enable("table")
        # The library's types want bound methods here; it calls any function.
        rules: Any = self._markdown.renderer.rules  # type: ignore[attr-defined]
        rules.update(
            {
                "html_block": self._html_block,
                "html_inline": self._html_inline,
                "fence": self._fence,
                "image": self._inline_image,
                "table_open": lambda *_: '<div class="scroll" tabindex="0" role="region">\n<table>\n',
                "table_close": lambda *_: "</table>\n</div>\n",
            }
        )

    def page(self) -> Page:
        tokens = list(self._with_figures(self._markdown.parse(self._source.read_text())))
        titles = [each for token, each in pairwise(tokens) if token.tag == "h1" and token.nesting > 0]
        if len(titles) != 1:
            raise ValueError(f"{self._source} has {len(titles)} first headings instead of one")
        self._name_headings(tokens)
        _empty_corners(tokens)
        if self._leads_on(tokens[-3:]):
            del tokens[-3:]
        for token in tokens:
            self._prepare(token)
        html = self._markdown.renderer.render(tokens, self._markdown.options, {})
        return Page(_plain(titles[0]), html, self._files)

    def _with_figures(self, tokens: list[Token]) -> Iterator[Token]:
        """Turns paragraphs that are a picture alone into figures, and puts the panels that replace them around them."""
        around = ""
        at = 0
        while at < len(tokens):
            token = tokens[at]
            picture = _only_picture(tokens[at : at + 3])
            if around and not picture:
                raise self._problem(token, f"the panel {around} replaces no picture")
            if picture:
                yield _raw(self._figure(picture, around))
                around, at = "", at + 3
                continue
            panel = _PANEL.match(token.content.strip()) if token.type == "html_block" else None
            if panel:
                for file in PANEL_FILES.get(panel["name"], ()):
                    self._keep_for_panel(file)
                if panel["instead"]:
                    around = panel["name"]
                else:
                    yield _raw(f'<div data-panel="{panel["name"]}"></div>\n')
            else:
                yield token
            at += 1
        if around:
            raise ValueError(f"{self._source}: the panel {around} replaces no picture")

    def _figure(self, picture: Token, panel: str) -> str:
        title = str(picture.attrs.get("title", ""))
        caption = f"<figcaption>{escape(title)}</figcaption>" if title else ""
        figure = f"<figure>{self._image(picture)}{caption}</figure>\n"
        return f'<div data-panel="{panel}">{figure}</div>\n' if panel else figure

    def _image(self, token: Token) -> str:
        file = self._resolve(token, str(token.attrs["src"]))
        if not token.content:
            raise self._problem(token, f"{file.name} has no text for those who do not see it")
        if file.suffix == ".svg":
            size = re.search(r'<svg[^>]*\bwidth="(\d+)"[^>]*\bheight="(\d+)"', file.read_text())
            if size is None:
                raise self._problem(token, f"{file.name} states no width and height")
            width, height = int(size[1]), int(size[2])
        else:
            with Image.open(file) as image:
                width, height = image.size
        return (
            f'<img src="learn/{self._keep(file)}" alt="{escape(_plain(token))}" width="{width}" height="{height}" '
            'loading="lazy" decoding="async">'
        )

    def _keep(self, file: Path) -> str:
        parts = file.relative_to(ROOT).parts
        path = "/".join(["files", *(part for part in parts if not _SILENT.match(part))])
        self._files[path] = file
        return path

    def _keep_for_panel(self, file: Path) -> None:
        if not file.is_file():  # its study has not been run yet
            return
        self._keep(file)
        self._keep(file.parent / json.loads(file.read_text())["image"])

    def _resolve(self, token: Token, target: str) -> Path:
        file = (self._source.parent / target).resolve()
        if not file.is_file() or not file.is_relative_to(ROOT):
            raise self._problem(token, f"there is no file {target}")
        return file

    def _name_headings(self, tokens: list[Token]) -> None:
        """Gives headings ids as GitHub makes them, so that anchors in the Markdown lead to them."""
        seen: dict[str, int] = {}
        for token, inside in pairwise(tokens):
            if token.type != "heading_open":
                continue
            slug = re.sub(r"[^\w\- ]", "", _plain(inside).lower()).replace(" ", "-")
            count = seen[slug] = seen.get(slug, -1) + 1
            token.attrSet("id", f"{slug}-{count}" if count else slug)

    def _leads_on(self, tokens: list[Token]) -> bool:
        """Whether a last paragraph is a link to another section, which the page has there anyway."""
        if [each.type for each in tokens] != ["paragraph_open", "inline", "paragraph_close"]:
            return False
        children = tokens[1].children or []
        links = [str(each.attrs["href"]) for each in children if each.type == "link_open"]
        around = "".join(each.content for each in children[:1] + children[-1:] if each.type == "text")
        if len(links) != 1 or len(around) > 12:
            return False
        target = self._source.parent / links[0]
        return target.is_file() and target.parent in LANGUAGES.values()

    def _prepare(self, token: Token) -> None:
        style = str(token.attrs.pop("style", ""))
        if style in _ALIGNED:
            token.attrJoin("class", _ALIGNED[style])
        if not token.children:
            return
        plain: list[bool] = []  # of the links that are open, whether their text alone remains
        for child in token.children:
            if child.type == "text":
                child.content = re.sub(r"(?<=\d) (?=%)", "\N{NO-BREAK SPACE}", child.content)
            if child.type == "link_open":
                target = self._link(child)
                plain.append(target is None)
                if target is not None:
                    child.attrs["href"] = target
                    if target.startswith("http"):
                        child.attrs["rel"] = "noreferrer"
            if child.type in ("link_open", "link_close") and plain and plain[-1]:
                child.hidden = True
            if child.type == "link_close":
                plain.pop()
        token.children = [child for child in token.children if not (child.hidden and child.type.startswith("link"))]

    def _link(self, token: Token) -> str | None:
        """Where a link leads on the served page; None if what it leads to is not there."""
        target = str(token.attrs["href"])
        if target.startswith(("http://", "https://", "#")):
            return target
        path, _, anchor = target.partition("#")
        file = (self._source.parent / path).resolve()
        if not file.exists():
            raise self._problem(token, f"the link to {path} leads nowhere")
        # The page has one language at a time, and a button for the other.
        if file.parent == self._source.parent and file.suffix == ".md":
            name = _name(file)
            return ("learn" if name == "index" else f"learn/{name}") + (f"#{anchor}" if anchor else "")
        card = _CARD.search(file.as_posix())
        return f"models/{card['name']}/{card['version']}" if card else None

    def _html_block(self, tokens: list[Token], at: int, *_: Any) -> str:
        content = tokens[at].content.strip()
        if _COMMENT.match(content):
            return ""
        if _FOLDED.match(content) or tokens[at].meta.get("made"):
            return f"{content}\n"
        raise self._problem(tokens[at], f"no HTML but details is allowed: {content[:60]}")

    def _html_inline(self, tokens: list[Token], at: int, *_: Any) -> str:
        content = tokens[at].content
        if not _INLINE.match(content):
            raise self._problem(tokens[at], f"no such HTML is allowed: {content[:60]}")
        return "" if content.startswith("<!--") else content

    def _inline_image(self, tokens: list[Token], at: int, *_: Any) -> str:
        return self._image(tokens[at])

    @staticmethod
    def _fence(tokens: list[Token], at: int, *_: Any) -> str:
        # It scrolls sideways, also by the keyboard.
        return f'<pre tabindex="0"><code>{escape(tokens[at].content, quote=False)}</code></pre>\n'

    def _problem(self, token: Token, what: str) -> ValueError:
        line = f":{token.map[0] + 1}" if token.map else ""
        return ValueError(f"{self._source.relative_to(ROOT)}{line}: {what}")


def _empty_corners(tokens: list[Token]) -> None:
    """Makes headings of a table that say nothing plain cells, which a screen reader does not announce as headings."""
    for first, inside, last in zip(tokens, tokens[1:], tokens[2:], strict=False):
        if first.type == "th_open" and not inside.content:
            first.tag = last.tag = "td"


def _only_picture(tokens: list[Token]) -> Token | None:
    """The picture of a paragraph that has nothing else; None of any other."""
    if [each.type for each in tokens] != ["paragraph_open", "inline", "paragraph_close"]:
        return None
    children = tokens[1].children or []
    return children[0] if len(children) == 1 and children[0].type == "image" else None


def _raw(html: str) -> Token:
    return Token("html_block", "", 0, content=html, meta={"made": True})


def _plain(token: Token) -> str:
    """The text of what is in a line, without its markup."""
    return "".join(
        _plain(each) if each.children else each.content if each.type in ("text", "code_inline") else " "
        for each in token.children or []
        if each.type in ("text", "code_inline", "softbreak", "image")
    )
