"""The page's files, read once and held in memory as they are sent."""

import gzip
import hashlib
from dataclasses import dataclass
from pathlib import Path

_STATIC = Path(__file__).with_name("static")
_MEDIA_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


@dataclass(frozen=True, slots=True)
class Asset:
    """A file as it is sent: its bytes, plain and compressed by gzip, and its media type."""

    content: bytes
    packed: bytes
    media_type: str

    @classmethod
    def of(cls, content: bytes, suffix: str) -> "Asset":
        """Compresses a file."""
        return cls(content, gzip.compress(content, 9, mtime=0), _MEDIA_TYPES[suffix])


class Bundle:
    """All files of the page.

    Attributes:
        assets: by path below the folder.
        digest: of all files; part of their addresses, so that a client may keep what it got from one.
    """

    def __init__(self, folder: Path = _STATIC) -> None:
        contents = {
            path.relative_to(folder).as_posix(): path.read_bytes()
            for path in sorted(folder.rglob("*"))
            if path.suffix in _MEDIA_TYPES
        }
        joined = hashlib.sha256()
        for path, content in contents.items():
            joined.update(f"{path}\0{len(content)}\0".encode() + content)
        self.digest = joined.hexdigest()[:12]
        self._index = contents.pop("index.html").decode()
        self.assets = {path: Asset.of(content, Path(path).suffix) for path, content in contents.items()}

    def index(self, root: str) -> Asset:
        """The page itself.

        Args:
            root: relative path from the page's address to the server's root, such as `./`; a proxy may serve the page
                below any path.
        """
        base = f"{root}web/{self.digest}/"
        # Without preloads a browser would learn of each module only from the one that imports it. Those in js/live
        # belong to a worker.
        modules = [path for path in self.assets if path.endswith(".js") and not path.startswith("js/live/")]
        preloads = "\n".join(f'<link rel="modulepreload" href="{base}{path}">' for path in modules)
        page = self._index.replace("<!-- preload -->", preloads).replace("{base}", base).replace("{root}", root)
        return Asset.of(page.encode(), ".html")
