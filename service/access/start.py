"""Which keys a server starts with: those of its file, one that it makes, or none."""

import sys

from service.access.keys import KeyRing, digest_of, new_secret
from service.access.local import is_loopback
from service.settings import Settings


def ring_of(settings: Settings, *, share: float = 1.0, generated: str | None = None) -> KeyRing | None:
    """The keys of a server; None if it needs none.

    Args:
        settings: of the service.
        share: of each key's rates that this process grants.
        generated: digest of the key that `generate` made. Without it, a server that needs one lets nobody in.

    Raises:
        InvalidKeys: the key file cannot be read or is invalid.
    """
    if settings.keys is not None:
        return KeyRing(settings.keys, share=share)
    return KeyRing(generated=generated) if needs_generated(settings) else None


def needs_generated(settings: Settings) -> bool:
    """Whether others can reach the server, which has no keys and is not meant to be open.

    The permissions of a Unix socket say who reaches it.
    """
    over_tcp = settings.uds is None or settings.grpc_port is not None
    return not (settings.keys or settings.open) and over_tcp and not is_loopback(settings.host)


def generate(url: str) -> str:
    """Makes a key, shows it with a command that uses it, and returns its digest."""
    secret = new_secret()
    print(
        f"""
Others can reach this server, and QUARTET_KEYS names no keys, so it has made one for this run:

    {secret}
    curl -H 'Authorization: Bearer {secret}' {url}/v1/models

It is not shown again. `quartet keys add NAME` makes keys that last; QUARTET_OPEN=1 lets everyone in.
""",
        file=sys.stderr,
        flush=True,
    )
    return digest_of(secret)
