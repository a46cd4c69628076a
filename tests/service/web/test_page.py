import httpx
import pytest

from service.web.page import prefers_json


async def test_the_page_is_html_and_programs_find_the_api(client: httpx.AsyncClient):
    page = await client.get("/")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "accept" in page.headers["vary"]
    links = await client.get("/", headers={"accept": "application/json"})
    assert links.json()["docs"] == "/docs"
    for name in ("docs", "openapi", "models", "ready"):
        assert (await client.get(links.json()[name])).status_code == 200


@pytest.mark.parametrize(
    ("accept", "wanted"),
    [
        ("", False),
        ("*/*", False),
        ("text/html,application/xhtml+xml,application/json;q=0.9", False),
        ("application/json", True),
        ("application/hal+json, */*;q=0.1", True),
    ],
)
def test_who_prefers_json(accept: str, wanted: bool):
    assert prefers_json(accept) is wanted


async def test_files_are_kept_and_not_sent_twice(client: httpx.AsyncClient):
    page = await client.get("/")
    address = page.text.partition('type="module" src="./')[2].partition('"')[0]
    file = await client.get(f"/{address}")
    assert file.headers["content-type"] == "text/javascript; charset=utf-8"
    assert "immutable" in file.headers["cache-control"]
    again = await client.get(f"/{address}", headers={"if-none-match": file.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    old = address.replace(address.split("/")[1], "000000000000")
    outdated = await client.get(f"/{old}")
    assert outdated.content == file.content
    assert outdated.headers["cache-control"] == "no-cache"
    assert (await client.get("/", headers={"if-none-match": page.headers["etag"]})).status_code == 304
    plain = await client.get(f"/{address}", headers={"accept-encoding": "identity"})
    assert plain.content == file.content
    assert plain.headers["etag"] != file.headers["etag"]
    assert file.headers["content-encoding"] == "gzip"


async def test_head_is_answered_without_a_body(client: httpx.AsyncClient):
    head = await client.head("/")
    assert head.status_code == 200
    assert int(head.headers["content-length"]) > 500


@pytest.mark.parametrize(
    "path",
    [
        *("/web/x/js/absent.js", "/web/x/%2e%2e/page.py", "/web/x/index.html", "/web/x/", "/web/x/learn/"),
        *("/learn/9-absent", "/learn/index", "/learn/2-convolution/more", "/learn/%2e%2e/%2e%2e/README.md"),
    ],
)
async def test_nothing_else_is_served(client: httpx.AsyncClient, path: str):
    assert (await client.get(path)).status_code == 404


async def test_the_policy_lets_nothing_from_elsewhere_in(client: httpx.AsyncClient):
    for path in ("/", "/models/classifier/1", "/learn", "/learn/2-convolution"):
        page = await client.get(path)
        policy = dict(part.split(" ", 1) for part in page.headers["content-security-policy"].split("; "))
        assert policy["default-src"] == "'none'"
        assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
        assert page.headers["x-frame-options"] == "DENY"
        assert "http" not in page.headers["content-security-policy"]
        assert "unsafe" not in page.headers["content-security-policy"]


@pytest.mark.parametrize(("path", "root"), [("/learn", "./"), ("/learn/2-convolution", "../")])
async def test_the_course_is_a_page_like_the_first(client: httpx.AsyncClient, path: str, root: str):
    page = await client.get(path)
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.headers["content-encoding"] == "gzip"
    assert f'type="module" src="{root}web/' in page.text
    assert (await client.head(path)).headers["etag"] == page.headers["etag"]
    assert (await client.get(path, headers={"if-none-match": page.headers["etag"]})).status_code == 304
    assert path not in (await client.get("/openapi.json")).text


async def test_pictures_are_sent_as_they_are(client: httpx.AsyncClient):
    """They are compressed already."""
    page = (await client.get("/learn")).text
    base = page.partition('type="module" src=".')[2].partition("js/")[0]
    text = await client.get(f"{base}learn/en/2-convolution.html")
    assert text.headers["content-encoding"] == "gzip"
    address = text.text.partition('<img src="')[2].partition('"')[0]
    picture = await client.get(f"{base}{address}")
    assert picture.headers["content-type"] in ("image/png", "image/jpeg")
    assert "content-encoding" not in picture.headers
    assert "immutable" in picture.headers["cache-control"]
