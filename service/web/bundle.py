"""The page's files, read once and held in memory as they are sent."""

import gzip
import hashlib
import json
import posixpath
import re
from dataclasses import dataclass
from pathlib import Path

_STATIC = Path(__file__).with_name("static")
_MEDIA_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".jpg": "image/jpeg",
}
_PACKED = (".png", ".jpg")  # compressed already
# The course: its texts and pictures, and the code and styles that only its pages need.
_LEARN = ("js/learn/", "css/learn", "learn/")
_IMPORT = re.compile(r"""^(?:import|export)\b[^;]*?["'](\.{1,2}/[^"']+)["'];""", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Asset:
    """A file as it is sent: its bytes, plain and compressed by gzip, and its media type."""

    content: bytes
    packed: bytes
    media_type: str

    @classmethod
    def of(cls, content: bytes, suffix: str) -> "Asset":
        """Compresses a file, unless it is compressed already."""
        packed = content if suffix in _PACKED else gzip.compress(content, 9, mtime=0)
        return cls(content, packed, _MEDIA_TYPES[suffix])


class Bundle:
    """All files of the page, and those of the course from the folder `learn` beside it.

    Attributes:
        assets: by path below the folder.
        digest: of all files; part of their addresses, so that a client may keep what it got from one.
        sections: of the course.
    """

    def __init__(self, folder: Path = _STATIC) -> None:
        learn = folder.with_name("learn")
        contents = {
            f"{prefix}{path.relative_to(each).as_posix()}": path.read_bytes()
            for prefix, each in (("", folder), ("learn/", learn))
            for path in sorted(each.rglob("*"))
            if path.suffix in _MEDIA_TYPES
        }
        joined = hashlib.sha256()
        for path, content in contents.items():
            joined.update(f"{path}\0{len(content)}\0".encode() + content)
        self.digest = joined.hexdigest()[:12]
        self._index = contents.pop("index.html").decode()
        self.assets = {path: Asset.of(content, Path(path).suffix) for path, content in contents.items()}
        listed = json.loads(contents.get("learn/contents.json", b"{}")).get("en", {})
        self.sections = frozenset(listed) - {"index"}

    def index(self, root: str, *, learn: bool = False) -> Asset:
        """The page itself.

        Args:
            root: relative path from the page's address to the server's root, such as `./`; a proxy may serve the page
                below any path.
            learn: whether it is a page of the course, which needs other modules at once, and styles of its own.
        """
        base = f"{root}web/{self.digest}/"
        # Without preloads a browser would learn of each module only from the one that imports it.
        modules = self._reached("js/main.js", "js/learn/page.js") if learn else self._of_panels()
        styles = [path for path in self.assets if learn and path.startswith("css/learn")]
        links = "\n".join(
            [f'<link rel="stylesheet" href="{base}{path}">' for path in styles]
            + [f'<link rel="modulepreload" href="{base}{path}">' for path in modules]
        )
        page = self._index.replace("<!-- preload -->", links).replace("{base}", base).replace("{root}", root)
        return Asset.of(page.encode(), ".html")

    def _of_panels(self) -> list[str]:
        """The modules of all panels. Those in js/live belong to a worker."""
        others = ("js/live/", *_LEARN)
        return [path for path in self.assets if path.endswith(".js") and not path.startswith(others)]

    def _reached(self, *modules: str) -> list[str]:
        """Modules with those that they import, directly or through others."""
        found: list[str] = []
        waiting = list(modules)
        while waiting:
            module = waiting.pop()
            if module in found:
                continue
            found.append(module)
            imported = _IMPORT.findall(self.assets[module].content.decode())
            waiting += [posixpath.normpath(posixpath.join(posixpath.dirname(module), each)) for each in imported]
        return sorted(found)
