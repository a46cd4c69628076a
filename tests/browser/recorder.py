"""A proxy before the server that records what it is asked, for code that pages show."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self
from urllib.parse import parse_qs, urlsplit

import httpx


class Recorder:
    """Passes requests on to a server.

    Attributes:
        url: where it answers.
        asked: the path, the options and the body of each POST request, in order.
    """

    def __init__(self, server: str) -> None:
        self.asked: list[tuple[str, dict[str, list[str]], bytes]] = []
        asked = self.asked

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._pass_on(b"")

            def do_POST(self) -> None:
                url = urlsplit(self.path)
                body = self.rfile.read(int(self.headers["content-length"]))
                asked.append((url.path, parse_qs(url.query), body))
                self._pass_on(body)

            def _pass_on(self, body: bytes) -> None:
                headers = {name: self.headers[name] for name in ("content-type",) if name in self.headers}
                with httpx.Client(trust_env=False, timeout=60) as client:
                    answer = client.request(self.command, f"{server}{self.path}", content=body, headers=headers)
                self.send_response(answer.status_code)
                self.send_header("content-type", answer.headers["content-type"])
                self.send_header("content-length", str(len(answer.content)))
                self.end_headers()
                self.wfile.write(answer.content)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
