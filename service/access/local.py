"""Whether a request comes from a program on this machine, and not from a page of another site in its browser."""

import ipaddress
from collections.abc import Mapping

from starlette.types import Scope

# The host of a client that has no address.
UNIX = "unix"
# A proxy on this machine sends for others.
_OF_PROXIES = (b"forwarded", b"x-forwarded-for", b"x-forwarded-host", b"x-real-ip", b"via")


def is_loopback(host: str) -> bool:
    """Whether a name or an address is this machine's own."""
    if host == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


def is_of_other_site(headers: Mapping[bytes, bytes]) -> bool:
    """Whether a browser says that a page of another site has sent a request."""
    site = headers.get(b"sec-fetch-site")
    if site is not None:
        return site not in (b"same-origin", b"none")
    # Browsers state the origin of everything but simple reads.
    origin = headers.get(b"origin")
    return origin is not None and origin.partition(b"://")[2] != headers.get(b"host")


def why_not_local(scope: Scope) -> str | None:
    """Why a request without a key may not be taken for one of this machine's administrator; None if it may."""
    headers: Mapping[bytes, bytes] = scope["quartet.headers"]
    client = scope.get("client")
    if client and client[0] == UNIX:
        return "this came over a Unix socket, on which a proxy may send for others"
    if not client or not is_loopback(client[0]):
        return "this comes from another one"
    if any(name in headers for name in _OF_PROXIES):
        return "this came through a proxy"
    # A page whose name has been pointed at this machine would be of the same site (DNS rebinding).
    if not is_loopback(_name_of(headers.get(b"host", b"").decode("latin-1"))):
        return "the Host header is not localhost"
    if is_of_other_site(headers):
        return "a page of another site sent this"
    return None


def _name_of(host: str) -> str:
    """A Host header without its port."""
    return host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0].lower()
