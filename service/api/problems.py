"""The pages at /problems, one for each problem. The `type` of a problem document leads to its page."""

import base64
import hashlib
from collections.abc import Callable
from html import escape
from string import Template

from fastapi import FastAPI, Request, Response
from markdown_it import MarkdownIt

from service.api.headers import cacheable, security_headers
from service.catalogue import CATALOGUE, PAGES, Entry
from service.errors import NotFound, truncate

_HTML = "text/html; charset=utf-8"
_STYLE = """
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
body { max-width: 42rem; margin: 0 auto; padding: 2rem 1rem; }
dt { margin-top: 1rem; font-weight: 600; }
dd { margin: 0; }
code { font-family: ui-monospace, monospace; font-size: .9em; overflow-wrap: anywhere; }
li { margin: .5rem 0; }
a { color: LinkText; }
"""
_PAGE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title – Quartet</title>
<style>$style</style>
</head>
<body>
<main>
<h1>$title</h1>
$content
</main>
</body>
</html>
""")
_DESCRIPTION = Template("""<dl>
<dt>Status and code</dt><dd>$status <code>$code</code></dd>
<dt>Meaning</dt><dd>$meaning</dd>
<dt>What to do</dt><dd>$remedy</dd>
<dt>Does a retry help?</dt><dd>$retry</dd>
<dt>Example of <code>detail</code></dt><dd>$example</dd>
</dl>
<p><a href="../problems">All problems</a></p>
""")
_HEADERS = security_headers(
    {
        "default-src": "'none'",
        "style-src": f"'sha256-{base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()}'",
    }
)


def install(app: FastAPI) -> None:
    """Adds the pages."""
    markdown = MarkdownIt("commonmark", {"html": False}).renderInline
    pages = {code: _page(entry.example.title(), _described(entry, markdown)) for code, entry in CATALOGUE.items()}
    listed = "".join(
        f'<li><a href="problems/{code}">{escape(entry.example.title())}</a> ({entry.status:d} <code>{code}</code>)<br>'
        f"{markdown(entry.meaning)}</li>\n"
        for code, entry in CATALOGUE.items()
    )
    index = _page("Problems", f"<ul>\n{listed}</ul>")

    @app.api_route(PAGES, methods=["GET", "HEAD"], include_in_schema=False)
    async def list_problems(request: Request) -> Response:
        return cacheable(request, index, _HTML, _HEADERS)

    @app.api_route(f"{PAGES}/{{code}}", methods=["GET", "HEAD"], include_in_schema=False)
    async def show_problem(request: Request, code: str) -> Response:
        if code not in pages:
            raise NotFound(f"There is no problem {truncate(code)!r}: {PAGES} lists them.")
        return cacheable(request, pages[code], _HTML, _HEADERS)


def _page(title: str, content: str) -> bytes:
    return _PAGE.substitute(title=escape(title), style=_STYLE, content=content).encode()


def _described(entry: Entry, markdown: Callable[[str], str]) -> str:
    return _DESCRIPTION.substitute(
        status=f"{entry.status:d}",
        code=entry.code,
        meaning=markdown(entry.meaning),
        remedy=markdown(entry.remedy),
        retry=markdown(entry.retry),
        example=escape(entry.example.detail),
    )
