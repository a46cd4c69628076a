"""Sphinx renders the documents as a site: `make docs`. A link or an anchor that leads nowhere is an error.

The root of the sources is the repository, because the documents link to model cards, examples and other files.
"""

import re

from sphinx.application import Sphinx

project = "Quartet"
copyright = "The Quartet authors"  # noqa: A001 - Sphinx's name for it
root_doc = "docs/README"
COURSE = ("docs/course/README", "docs/course/ko/README")
extensions = ["myst_parser"]
include_patterns = ["*.md", "docs/*.md", "docs/**/*.md", "examples/**/*.md", "models/*/*/report/README.md"]
exclude_patterns = [".*", "build", "node_modules", "runs"]
html_theme = "furo"
html_title = project
html_copy_source = False
# Anchors of headings, as GitHub makes them.
myst_heading_anchors = 4
# Folders, which have no page: the text of such a link remains.
nitpick_ignore_regex = [("myst", r"(\.\./)*(benchmarks|deploy/\w+|examples|models)/?")]
# Model cards and other pages are reached by links, not from the sidebar. Answers are shortened with an ellipsis.
suppress_warnings = ["misc.highlighting_failure", "toc.not_included"]


def _add_contents(_: Sphinx, docname: str, source: list[str]) -> None:
    """Makes the sidebar of the pages that the first page links to, by its sections; the course lists its own."""
    if docname in COURSE:
        listed = "\n".join(re.findall(r"\| \[.*\]\((\d-\w+)\.md\)", source[0]))
        source[0] += f"\n```{{toctree}}\n:hidden:\n\n{listed}\n```\n"
    if docname != root_doc:
        return
    first, *sections = source[0].split("\n## ")
    for text in (f"Start: {first}", *sections):
        caption = text.partition(":")[0]
        listed = "\n".join(re.findall(r"\]\(([\w/-]+)\.md\)", text))
        source[0] += f"\n```{{toctree}}\n:hidden:\n:caption: {caption}\n\n{listed}\n```\n"


def setup(app: Sphinx) -> None:
    """Connects the function above."""
    app.connect("source-read", _add_contents)
