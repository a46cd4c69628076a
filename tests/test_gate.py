"""Every route of the real server, and odd ways to spell it, with every kind of wrong key."""

import base64
import http.client
import json
import re
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from starlette.routing import Mount

from service.access.gate import needed
from service.access.keys import digest_of
from service.app import create_app
from service.settings import Settings
from service.tasks.registry import BUILT_IN
from tests.keyed import Wire, bearer, write_keys
from tests.pictures import encode
from tests.server import Server
from tests.tiny import solid, write_model

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "LINK")
PUBLIC = (
    *("/healthz/live", "/healthz/ready", "/v2/health/live", "/v2/health/ready"), "/problems", "/problems/unauthorized"
)  # fmt: skip
VALUES = {"name": "secretive", "version": "1", "index": "0", "file": "README.md", "digest": "0", "path": "js/main.js",
          "section": "2-convolution", "code": "unauthorized"}  # fmt: skip
NO_KEY = {
    "none": {},
    "wrong": bearer("wrong"),
    "the digest": bearer(digest_of("everything")),
    "expired": bearer("expired"),
    "empty": bearer(""),
    "another scheme": {"Authorization": "Digest everything"},
    "no scheme": {"Authorization": "everything"},
    "two keys": {**bearer("everything"), "X-API-Key": "infer"},
    "two keys, one wrong": {**bearer("everything"), "X-API-Key": "wrong"},
    "a key and an empty one": {**bearer("everything"), "X-API-Key": ""},
    "as user": {"Authorization": f"Basic {base64.b64encode(b'everything:').decode()}"},
    "no base64": {"Authorization": "Basic everything"},
    "long": bearer("x" * 10_000),
    "in the query": {},
}


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("keyed")
    for name in ("secretive", "hidden"):
        write_model(folder / "models", name)
    keys = write_keys(
        folder / "keys.toml",
        everything={"scopes": ["infer", "admin", "metrics"]},
        admin={"scopes": ["admin"]},
        infer={"scopes": ["infer"]},
        metrics={"scopes": ["metrics"]},
        expired='scopes = ["admin"]\nexpires = 2020-01-01T00:00:00Z',
        other={"scopes": ["infer", "metrics"], "models": ["hidden", "gone"]},
    )
    server = Server(models=folder / "models", keys=keys)
    yield server
    assert server.stop() == 0
    assert "Traceback" not in "".join(server.lines)


@pytest.fixture
def wire(keyed: Server) -> Iterator[Wire]:
    wire = Wire(keyed)
    yield wire
    wire.close()


def every(routes: list[Any]) -> Iterator[Any]:
    """The routes, also those of routers that were included."""
    for route in routes:
        inner = getattr(route, "original_router", None)
        yield from every(inner.routes) if inner else [route]


def paths(folder: Path) -> list[str]:
    """The path of every route and endpoint, with values for its parameters."""
    app = create_app(Settings(models=folder))
    found = {f"/v1/{operation.name}" for _, operation in BUILT_IN.operations()}
    found |= {"/v2/models/secretive/infer", "/v2/models/secretive/versions/1/infer"}
    for route in every(app.routes):
        path = f"{route.path}/swagger-ui.css" if isinstance(route, Mount) else route.path
        found.add(re.sub(r"\{(\w+)(:\w+)?\}", lambda match: VALUES.get(match[1], "x"), path))
    assert {"/metrics", "/docs", "/openapi.json", "/", "/docs/static/swagger-ui.css", "/v1/models"} <= found
    return sorted(found)


def spellings(path: str) -> set[str]:
    """Other ways to write a target, some of which routers, proxies and guards take for the same."""
    first, _, rest = path[1:].partition("/")
    return {
        f"/{path}",
        f"{path}/",
        f"{path}//",
        f"{path}%0A",
        f"{path}%20",
        f"{path}%00",
        f"{path};x",
        f"{path}?api_key=everything",
        f"{path}.",
        f"/.{path}",
        f"/x/..{path}",
        f"/%2e{path}",
        f"/x/%2e%2e{path}",
        f"/healthz/live/..{path}",
        f"/healthz/live/%2e%2e/%2e%2e{path}",
        f"/healthz/live%2f..{path}",
        f"/healthz/live;{path}",
        f"/healthz/live?{path}",
        f"/%2f{path[1:]}",
        path.upper(),
        path.replace("/", "%2F"),
        path.replace("/", "\\"),
        f"/{''.join(f'%{ord(letter):02x}' for letter in first)}/{rest}",
        f"http://elsewhere{path}",
        f"https://elsewhere{path}",
    } - {path, "/"}


UNKNOWN = [
    *("/nowhere", "/v1", "/v1/", "/v1/nowhere", "/healthz", "/healthz/", "/web", "/static", "/favicon.ico", "/admin"),
    *("/invocations", "/v2/models/classifier/infer", "/v1/models/classifier/pin", "/v1/models/classifier/audit"),
]


def test_no_route_is_open(wire: Wire, tiny_models: Path):
    asked = 0
    for path in [*paths(tiny_models), *UNKNOWN]:
        for method in METHODS:
            for what, headers in NO_KEY.items():
                target = f"{path}?api_key=everything&key=everything" if what == "in the query" else path
                status, answered, body = wire.ask(method, target, headers)
                asked += 1
                if path in PUBLIC and method in ("GET", "HEAD"):
                    has_head = method == "GET" or path.startswith("/problems")
                    assert status == (200 if has_head else 405), (method, path, what)
                    continue
                assert status == 401, (method, path, what)
                assert "Bearer" in ",".join(answered.get_all("www-authenticate"))
                if method != "HEAD":
                    document = json.loads(body)
                    assert "error" in document if path.startswith("/v2") else document["code"] == "unauthorized"
    assert asked > 3000


def test_no_spelling_is_open(wire: Wire, tiny_models: Path):
    for path in paths(tiny_models):
        for target in spellings(path):
            for method in ("GET", "POST"):
                status, _, _ = wire.ask(method, target)
                public = method == "GET" and re.sub("^https?://elsewhere", "", target).partition("?")[0] in PUBLIC
                public |= method == "GET" and target.startswith(
                    (
                        *("/%68%65%61%6c%74%68%7a/live", "/%68%65%61%6c%74%68%7a/ready"),
                        *("/%76%32/health/live", "/%76%32/health/ready", "/%70%72%6f%62%6c%65%6d%73/una"),
                    )
                )
                public |= method == "GET" and target in {each.replace("/", "%2F") for each in PUBLIC}
                if target.startswith(("\\", "%")):
                    assert status in (400, 401), target
                else:
                    assert status == (200 if public else 401), (method, target)


def test_connect_reaches_nothing(wire: Wire):
    for target in ("/v1/predict", "localhost:80"):
        with suppress(http.client.RemoteDisconnected):
            assert wire.ask("CONNECT", target)[0] in (400, 401)
        wire.close()


def test_a_header_that_occurs_twice_is_refused(wire: Wire):
    for name, good, bad in (("Authorization", "Bearer infer", "Bearer wrong"), ("X-API-Key", "infer", "wrong")):
        assert wire.ask("GET", "/v1/models", [(name, good)])[0] == 200
        for values in ((good, bad), (bad, good), (good, good)):
            assert wire.ask("GET", "/v1/models", [(name, value) for value in values])[0] == 401


def test_a_key_does_what_its_scope_says(wire: Wire, tiny_models: Path):
    for path in [*paths(tiny_models), *UNKNOWN]:
        for target in (path, f"{path}%0A", f"{path}/"):
            for method in METHODS:
                decoded = target.replace("%0A", "\n")
                for key in ("admin", "infer", "metrics"):
                    status, _, _ = wire.ask(method, target, bearer(key))
                    wanted = needed(method, decoded)
                    public = decoded in PUBLIC and method in ("GET", "HEAD")
                    allowed = public or key == "admin" or wanted in (None, key)
                    assert (status not in (401, 403)) == allowed, (method, target, key, status)
    # It was unloaded among the rest.
    assert wire.ask("POST", "/v2/repository/models/secretive/load", bearer("admin"))[0] == 200


def test_what_needs_which_scope():
    """The table, written once more."""
    for method, path, scope in (
        ("POST", "/v1/predict", "infer"),
        ("GET", "/v1/models", "infer"),
        ("GET", "/v1/models/classifier/1/samples/0", "infer"),
        ("GET", "/v1/models/classifier/policy", "infer"),
        ("POST", "/v1/models/classifier/promote", "admin"),
        ("PUT", "/v1/models/classifier/canary", "admin"),
        ("DELETE", "/v1/models/classifier/aliases/stable", "admin"),
        ("BREW", "/v1/models/classifier", "admin"),
        ("GET", "/v1/models/classifier/audit", "admin"),
        ("GET", "/v1/models/classifier/audit\n", "admin"),
        ("GET", "/v1/models/audit", "infer"),
        ("GET", "/v1/models/classifier/shadow", "infer"),
        ("GET", "/v1/models/classifier/shadow/examples/3", "admin"),
        ("GET", "/v2/models/classifier", "infer"),
        ("POST", "/v2/models/classifier/infer", "infer"),
        ("POST", "/v2/repository/index", "infer"),
        ("POST", "/v2/repository/models/classifier/load", "admin"),
        ("POST", "/v2/repository/models/classifier/unload\n", "admin"),
        ("GET", "/v2/repository/models/classifier/load", "admin"),
        ("GET", "/metrics", "metrics"),
        ("GET", "/metrics\n", "metrics"),
        ("GET", "/v1/status", "metrics"),
        ("GET", "/v1/status\n", "metrics"),
        ("GET", "/", None),
        ("POST", "/", "infer"),
        ("GET", "/docs", None),
        ("GET", "/anything/else", "infer"),
    ):
        assert needed(method, path) == scope, (method, path)


def test_a_model_of_another_key_is_as_one_that_there_is_not(wire: Wire, tiny_models: Path):
    def asked(method: str, target: str) -> tuple[int, str]:
        status, _, body = wire.ask(method, target, bearer("other"), encode(solid("red")) if method == "POST" else b"")
        document = json.loads(body)
        if target.startswith("/v2"):
            return status, document["error"]
        assert document["code"] == "unknown-model", target
        return status, document["detail"]

    for path in paths(tiny_models):
        # What needs another scope is refused before the model is looked at.
        if not path.startswith(("/v1/models/", "/v2/models/")) or needed("GET", path) != "infer":
            continue
        if path.endswith(("/v2/models/stats", "/infer", "/trace/setting")):
            continue
        for version in ("", "%0A"):
            (status, detail), absent = (
                asked("GET", path.replace("secretive", each) + version) for each in ("secretive", "absent")
            )
            assert status == absent[0] == 404, path
            assert detail.endswith("is served: there are hidden.")
            assert detail.replace("secretive", "absent") == absent[1]
    for name in ("secretive", "secretive/1", "secretive/9", "secretive/latest"):
        status, detail = asked("POST", f"/v1/predict?model={name}")
        assert (status, detail) == (404, "No model 'secretive' is served: there are hidden.")
    for path in ("/v2/models/secretive/infer", "/v2/models/secretive/versions/1/infer"):
        assert asked("POST", path) == (404, "No model 'secretive' is served: there are hidden.")
    # What the key names but is not served does not betray the others either.
    assert asked("GET", "/v1/models/gone")[1] == "No model 'gone' is served: there are hidden."
    status, _, body = wire.ask("POST", "/v1/predict", bearer("other"), encode(solid("red")))
    assert (status, json.loads(body)["model"]) == (200, "hidden")  # the only model that it knows of


def test_a_key_sees_its_models_alone(wire: Wire):
    wire.ask("POST", "/v1/predict?model=secretive", bearer("everything"), encode(solid("red")))
    for path in ("/v1/models", "/metrics", "/openapi.json", "/v2/models/stats", "/v2/repository/index"):
        for key, shown in (("everything", True), ("other", False)):
            status, _, body = wire.ask("POST" if path.endswith("index") else "GET", path, bearer(key))
            assert status == 200, path
            assert b"hidden" in body
            named = re.search(rb'"secretive(/\w+)?"', body)
            assert bool(named) == shown, (path, key)
    metrics = wire.ask("GET", "/metrics", bearer("other"))[2].decode()
    assert set(re.findall(r'quartet_key_requests_total\{key="(\w+)"', metrics)) == {"other"}


def test_a_body_is_not_read_before_its_key(keyed: Server):
    with socket.create_connection(("127.0.0.1", keyed.port), timeout=30) as connection:
        connection.sendall(
            b"POST /v1/predict HTTP/1.1\r\nHost: x\r\nContent-Length: 30000000\r\nExpect: 100-continue\r\n\r\n"
        )
        answer = connection.recv(65536)
        assert answer.startswith(b"HTTP/1.1 401 ")  # and no 100 Continue
        assert b"connection: close" in answer


def test_the_log_names_the_key_and_never_shows_it(keyed: Server, wire: Wire):
    wire.ask("GET", "/v1/models", {**bearer("infer"), "X-Request-ID": "named"})
    wire.ask("GET", "/v1/models", {**bearer("a-secret-key"), "X-Request-ID": "unnamed"})
    wire.ask("GET", "/v1/models", {**bearer("expired"), "X-Request-ID": "late"})
    metrics = wire.ask("GET", "/metrics", bearer("metrics"))[2].decode()  # what was buffered is written
    log = "".join(keyed.lines)
    for _ in range(100):
        if "id=late" in log:
            break
        wire.ask("GET", "/v1/models", bearer("infer"))
        log = "".join(keyed.lines)
    assert re.search(r"id=named GET /v1/models status=200 .*key=infer", log)
    assert re.search(r"id=late GET /v1/models status=401 .*key=expired problem=unauthorized", log)
    assert "key=" not in re.search(r"id=unnamed.*", log)[0]
    assert "a-secret-key" not in log
    assert re.search(r'quartet_key_requests_total\{key="infer",status="200"\} [1-9]', metrics)
