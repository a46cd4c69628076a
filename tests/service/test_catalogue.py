"""Every problem is explained: by a page of the server, and in the documentation."""

import re
from collections.abc import Iterator

import httpx
import pytest

import service.app  # noqa: F401 - defines all errors
from service.catalogue import CATALOGUE
from service.errors import QuartetError


def kinds(base: type[QuartetError] = QuartetError) -> Iterator[type[QuartetError]]:
    yield base
    for kind in base.__subclasses__():
        yield from kinds(kind)


def test_every_error_has_an_entry():
    found = {kind.slug: kind.status for kind in kinds() if kind.__module__.startswith("service.")}
    assert found == {code: entry.status for code, entry in CATALOGUE.items()}


@pytest.mark.parametrize("entry", CATALOGUE.values(), ids=CATALOGUE)
def test_an_entry_says_what_to_do(entry):
    assert entry.retry.startswith(("Yes", "No"))
    for text in (entry.meaning, entry.remedy, entry.retry, entry.example.detail):
        assert text.endswith(".")
        assert "|" not in text


async def test_the_type_of_a_problem_leads_to_its_page(client: httpx.AsyncClient):
    problem = (await client.get("/v1/models/nope")).json()
    assert (problem["code"], problem["type"]) == ("unknown-model", "/problems/unknown-model")
    page = await client.get(problem["type"])
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert "Use a name from <code>GET /v1/models</code>." in page.text
    assert "<script" not in page.text


async def test_the_pages(client: httpx.AsyncClient):
    index = await client.get("/problems")
    links = re.findall(r'href="problems/([a-z-]+)"', index.text)
    assert links == list(CATALOGUE)
    for code in links:
        page = await client.get(f"/problems/{code}")
        assert page.status_code == 200
        assert f"<code>{code}</code>" in page.text
        assert (await client.head(f"/problems/{code}")).status_code == 200
    missing = await client.get("/problems/none")
    assert (missing.status_code, missing.json()["code"]) == (404, "not-found")
