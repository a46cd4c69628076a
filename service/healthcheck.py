"""The health check of the images: exits with 0 if the server of this container is ready, and otherwise says why not.

Docker runs it every few seconds, so it imports next to nothing: `python -I -S service/healthcheck.py`.
"""

import os
import socket
import sys
from collections.abc import Mapping

_SECONDS = 2.0
PATH = "/healthz/ready"


def main() -> int:
    """Asks the server; returns 0 if it is ready, 1 otherwise."""
    try:
        with connect(os.environ) as connection:
            answer = ask(connection)
    except OSError as error:
        print(f"no answer: {error}")
        return 1
    if answer.split(b" ", 2)[1:2] == [b"200"]:
        return 0
    print(answer.decode(errors="replace"))
    return 1


def connect(variables: Mapping[str, str]) -> socket.socket:
    """A connection to where the settings have the server answer probes.

    Args:
        variables: the QUARTET_* variables, valid ones, since the server has started with them.

    Raises:
        OSError: nothing listens there, or no TLS.
    """

    def setting(name: str, default: str = "") -> str:
        return variables.get(f"QUARTET_{name}") or default

    if metrics_port := setting("METRICS_PORT"):
        return _connect(setting("METRICS_HOST"), metrics_port)
    if path := setting("UDS"):
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(_SECONDS)
        try:
            connection.connect(path)
        except OSError:
            connection.close()
            raise
        return connection
    connection = _connect(setting("HOST"), setting("PORT", "8000"))
    if not setting("TLS_CERT"):
        return connection
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # The certificate has the public name, and this connection does not leave the container.
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context.wrap_socket(connection)


def _connect(host: str, port: str) -> socket.socket:
    own = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - an address to listen on
    return socket.create_connection((own.get(host, host), int(port)), _SECONDS)


def ask(connection: socket.socket) -> bytes:
    """The server's answer to its readiness probe."""
    connection.sendall(f"GET {PATH} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
    return b"".join(iter(lambda: connection.recv(4096), b""))


if __name__ == "__main__":
    sys.exit(main())
