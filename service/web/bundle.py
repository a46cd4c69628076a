"""The page's files, read once and held in memory as they are sent."""

import gzip
import hashlib
import posixpath
import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable

from service.api.caching import entity_tag

_MEDIA_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".webmanifest": "application/manifest+json",
}
_START = "js/main.js"
_IMPORT = re.compile(r"""\b(?:from|import)[ (]["'](\.{1,2}/[^"']+)["']""")


@dataclass(frozen=True, slots=True)
class Asset:
    """A file as it is sent.

    Attributes:
        content: its bytes; `packed`, the same compressed by gzip.
        media_type: of it.
        tag: its entity tag; of the compressed bytes, `packed_tag`.
    """

    content: bytes
    packed: bytes
    media_type: str
    tag: str
    packed_tag: str

    @classmethod
    def of(cls, content: bytes, suffix: str) -> "Asset":
        """Prepares a file."""
        packed = gzip.compress(content, 9, mtime=0)
        return cls(content, packed, _MEDIA_TYPES[suffix], entity_tag(content), entity_tag(packed))


class Bundle:
    """All files of the page.

    Attributes:
        assets: by their path below the folder.
        digest: of all of them, part of their addresses: what is served under it never changes.
    """

    def __init__(self, folder: Traversable | None = None) -> None:
        folder = folder or files("service.web") / "static"
        contents = dict(sorted(_walk(folder)))
        joined = hashlib.sha256()
        for path, content in contents.items():
            joined.update(f"{path}\0{len(content)}\0".encode() + content)
        self.digest = joined.hexdigest()[:12]
        self.assets = {
            path: Asset.of(content, posixpath.splitext(path)[1])
            for path, content in contents.items()
            if path != "index.html"
        }
        self._index = contents["index.html"].decode()
        self._modules = list(_modules(contents, _START))

    def index(self, root: str) -> Asset:
        """The page itself.

        Args:
            root: what leads from the page's address to the server's root, such as `./`; the page may be served below
                any path by a proxy.
        """
        base = f"{root}web/{self.digest}/"
        # Without these a browser would learn of each module only from the one that imports it.
        preloads = "\n".join(f'<link rel="modulepreload" href="{base}{path}">' for path in self._modules)
        page = self._index.replace("<!-- preload -->", preloads).replace("{base}", base).replace("{root}", root)
        return Asset.of(page.encode(), ".html")


def _walk(folder: Traversable, prefix: str = "") -> Iterator[tuple[str, bytes]]:
    for child in folder.iterdir():
        path = prefix + child.name
        if child.is_dir():
            yield from _walk(child, f"{path}/")
        elif posixpath.splitext(path)[1] in _MEDIA_TYPES:
            yield path, child.read_bytes()


def _modules(contents: dict[str, bytes], start: str) -> Iterator[str]:
    """The modules that `start` imports, itself first, and those that they import."""
    seen, waiting = {start}, [start]
    while waiting:
        path = waiting.pop(0)
        yield path
        for imported in _IMPORT.findall(contents[path].decode()):
            found = posixpath.normpath(posixpath.join(posixpath.dirname(path), imported))
            if found not in seen:
                seen.add(found)
                waiting.append(found)
