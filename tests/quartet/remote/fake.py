"""A server with the routes for the versions of one model, `cats`, in its simplest form."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote


class Fake:
    """What the server knows.

    Attributes:
        requests: method, path and body of every request.
        keys: the values of the header Authorization.
        agreement: of the shadow with the default version; each look at the figures compares 300 more inputs.
    """

    def __init__(self) -> None:
        self.requests: list[tuple[str, str, Any]] = []
        self.keys: list[str | None] = []
        self.key: str | None = None
        self.url = ""
        self.agreement = 0.99
        self.compared = 0
        self.default, self.previous = "1", None
        self.aliases = {"candidate": "2"}
        self.loaded = ["1", "2"]
        self.canary: dict[str, Any] | None = None
        self.shadow: dict[str, Any] | None = None
        self.verdict: str | None = None

    def state(self) -> dict[str, Any]:
        return {
            "model": "cats",
            "default": self.default,
            "previous": self.previous,
            "aliases": self.aliases,
            "versions": [
                {
                    "version": version,
                    "status": "serving" if version == self.default else "loaded",
                    "aliases": [alias for alias, number in self.aliases.items() if number == version],
                    "share": 1.0 if version == self.default else 0.0,
                    "variant": "reference",
                    "device": "cpu",
                    "reason": None,
                }
                for version in self.loaded
            ]
            + [
                {
                    "version": "0",
                    "status": "refused",
                    "aliases": [],
                    "share": 0.0,
                    "variant": None,
                    "device": None,
                    "reason": "model.onnx: is missing",
                }
            ],
            "canary": self.canary,
            "shadow": self.shadow,
            "policy": {"file": "models/cats/serving.toml", "exists": True, "writable": True, "error": None},
            "last": {"time": "", "actor": "policy", "action": self.verdict} if self.verdict else None,
            "verdict": self.verdict,
        }

    def figures(self) -> dict[str, Any]:
        """Those of the shadow; once enough inputs are compared, its trial ends."""
        assert self.shadow
        self.compared += 300
        figures = {
            "version": "2",
            "against": "1",
            "measure": "same label",
            "compared": self.compared,
            "dropped": 3,
            "failed": 0,
            "agreement": {"value": self.agreement, "low": self.agreement - 0.01, "high": self.agreement + 0.01},
            "difference": {"mean": 0.01, "p95": 0.05, "max": 0.4},
            "classes": [{"label": "cat", "compared": 100, "agreement": 0.97, "low": 0.91, "high": 0.99}],
            "over_time": [],
            "examples": [],
            "verdict": None,
        }
        promote = self.shadow["promote"]
        if promote and self.compared >= promote["after"]:
            self.shadow = None
            if self.agreement >= promote["agreement"]:
                self.default, self.previous, self.verdict = "2", "1", "2 promoted: agreement 0.99"
            else:
                self.verdict = f"2 withdrawn: agreement {self.agreement} against 0.98 after {self.compared} inputs"
        return figures

    def answer(self, method: str, path: list[str], body: Any) -> dict[str, Any] | tuple[int, str]:
        match method, path:
            case "GET", ["policy"]:
                return self.state()
            case "GET", ["shadow"]:
                return self.figures() if self.shadow else (404, "cats has no shadow.")
            case "GET", ["canary"]:
                version = {
                    "requests": 1234,
                    "errors": 12,
                    "error_share": 0.0097,
                    "latency_ms": {"p50": 1.2, "p95": 3.4, "p99": None},
                    "labels": {"dog": 0.3, "cat": 0.7},
                    "unfamiliar": None,
                }
                trial = {"role": "canary", "version": "2", **version, "unfamiliar": 0.01}
                return {
                    "share": 0.05,
                    "versions": [{"role": "default", "version": "1", **version}, trial],
                    "verdict": None,
                }
            case "GET", ["audit"]:
                entry = {"time": "2026-11-30T10:00:00Z", "actor": "alice", "action": "promote 2"}
                return {"entries": [{**entry, "before": {}, "after": {}}]}
            case "POST", ["promote"] if body.get("version") == "9":
                return 409, "models/cats/serving.toml cannot be written:\nedit it where it comes from."
            case "POST", ["promote"] if "if_agreement" in body:
                promote = {"agreement": body["if_agreement"], "after": body["after"]}
                self.shadow = {"version": "2", "share": 1.0, "promote": promote}
            case "POST", ["promote" | "pin"]:
                version = self.aliases.get(body.get("version", "2"), body.get("version", "2"))
                self.previous, self.default = self.default, version
            case "POST", ["rollback"]:
                self.default, self.previous = self.previous or "", None
            case "POST", ["load"]:
                self.loaded = [*self.loaded, body["version"]]
            case "POST", ["unload"]:
                self.loaded = [version for version in self.loaded if version != body["version"]]
            case "PUT", ["aliases", alias]:
                self.aliases = {**self.aliases, alias: body["version"]}
            case "DELETE", ["aliases", alias]:
                self.aliases = {name: version for name, version in self.aliases.items() if name != alias}
            case "PUT", ["canary"]:
                share = body.get("share") or body["steps"][0]["share"]
                self.canary = {"version": body["version"], "share": share, "step": 0, "steps": body.get("steps")}
            case "PUT", ["shadow"]:
                self.shadow = {"version": body["version"], "share": body.get("share", 1.0), "promote": None}
            case "DELETE", ["canary"]:
                self.canary = None
            case "DELETE", ["shadow"]:
                self.shadow = None
            case _:
                return 404, f"There is no route {method} {'/'.join(path)}."
        return self.state()


@contextmanager
def serve(fake: Fake) -> Iterator[None]:
    """Serves it, and puts the address into `url`."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            length = int(self.headers.get("content-length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            fake.requests.append((self.command, self.path, body))
            fake.keys.append(self.headers.get("authorization"))
            _, v1, models, name, *path = map(unquote, self.path.split("/"))
            if fake.key and self.headers.get("authorization") != f"Bearer {fake.key}":
                answer: Any = (401, "A key is needed.")
            elif (v1, models, name) != ("v1", "models", "cats"):
                answer = (404, f"There is no model {name!r}; there are cats.", "unknown-model")
            else:
                answer = fake.answer(self.command, path, body)
            status = 200
            if isinstance(answer, tuple):
                status, detail, code = (*answer, "refused")[:3]
                answer = {
                    "type": f"/problems/{code}",
                    "code": code,
                    "title": "No",
                    "status": status,
                    "detail": detail,
                }
            content = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_POST = do_PUT = do_DELETE = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        fake.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()
