"""Key files for tests, and requests that are sent as they are written."""

import http.client
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from service.access.keys import digest_of
from tests.server import Server


def write_keys(path: Path, **entries: Mapping[str, Any] | str) -> Path:
    """Writes a key file; the key of each entry is its name. An entry has TOML lines, or fields with simple values."""
    lines: list[str] = []
    for name, entry in entries.items():
        fields = entry if isinstance(entry, str) else "\n".join(f"{field} = {_toml(entry[field])}" for field in entry)
        lines += [f'["{name}"]', f'sha256 = "{digest_of(name)}"', fields]
    path.write_text("\n".join(lines) + "\n")
    return path


def _toml(value: Any) -> str:
    return repr(value).replace("'", '"')


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


class Wire:
    """A connection that sends any method and target without changing them."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._connection: http.client.HTTPConnection | None = None

    def ask(
        self, method: str, target: str, headers: Mapping[str, str] | list[tuple[str, str]] = (), body: bytes = b""
    ) -> tuple[int, Mapping[str, str], bytes]:
        """The status, the headers and the body of the answer."""
        if self._connection is None:
            self._connection = http.client.HTTPConnection("127.0.0.1", self._server.port, timeout=60)
        connection = self._connection
        connection.putrequest(method, target, skip_accept_encoding=True)
        for name, value in headers.items() if isinstance(headers, Mapping) else headers:
            connection.putheader(name, value)
        connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body or None)
        response = connection.getresponse()
        content = response.read()
        if response.will_close:
            self.close()
        return response.status, response.headers, content

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
