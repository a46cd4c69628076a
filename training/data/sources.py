"""Where data comes from: a path, an archive, or a URL; each becomes a file or folder on disk."""

import hashlib
import shutil
import tarfile
import tempfile
import urllib.error
import urllib.parse
import urllib.request
import zipfile
from collections.abc import Callable
from pathlib import Path

from rich.progress import Progress

from training.data import hub
from training.data.dataset import DataError

_ARCHIVES = (".zip", ".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz")
_CHUNK = 1 << 20
# What archive programs add of their own.
_CLUTTER = ("__MACOSX", "Thumbs.db", "desktop.ini")


def locate(source: str, hint: str, *, folder: bool = False) -> Path | None:
    """The file or folder that a source names; None for the id of a data set on the hub.

    A URL is downloaded and an archive is unpacked, each once, into the cache of the `datasets` library.

    Args:
        source: a hub id, a path, or a URL (`http`, `https`).
        hint: what to give instead, for the error message.
        folder: whether only a folder will do.

    Raises:
        DataError: nothing is there, the download fails, or the archive cannot be unpacked.
    """
    if source.startswith(("http://", "https://")):
        path = _download(source)
    else:
        archived = source.lower().endswith(_ARCHIVES)
        found = hub.local_path(source, hint, folder=folder and not archived)
        if found is None:
            return None
        path = found
    if path.is_file() and path.name.lower().endswith(_ARCHIVES):
        path = _unpack(path)
    if folder and not path.is_dir():
        raise DataError(f"{source}: no such folder. {hint}")
    return path


def is_clutter(path: Path) -> bool:
    """Whether a file or folder is hidden, or was made by a file manager or an archive program."""
    return path.name.startswith(".") or path.name in _CLUTTER


def name_of(source: str) -> str:
    """What to call a data set: its hub id, or the name of its folder or file without suffixes."""
    if source.startswith(("http://", "https://")):
        path = Path(urllib.parse.unquote(urllib.parse.urlsplit(source).path))
    else:
        path = Path(source).expanduser()
        if not path.exists():
            return source
        path = path.resolve()
        if path.is_dir():
            return path.name
    name = path.name
    for suffix in sorted(_ARCHIVES, key=len, reverse=True):
        if name.lower().endswith(suffix):
            return name[: -len(suffix)]
    return path.stem


def _download(url: str) -> Path:
    name = Path(urllib.parse.unquote(urllib.parse.urlsplit(url).path)).name or "data"
    folder = _cached("downloads", url)
    if (folder / name).is_file():
        return folder / name

    def fetch(target: Path) -> None:
        try:
            with (
                urllib.request.urlopen(url, timeout=60) as response,  # noqa: S310 - only http and https come here
                (target / name).open("wb") as file,
                Progress(transient=True) as progress,
            ):
                total = response.headers.get("content-length")
                task = progress.add_task(f"Downloading {name}", total=int(total) if total else None)
                while part := response.read(_CHUNK):
                    file.write(part)
                    progress.update(task, advance=len(part))
        except (OSError, ValueError, urllib.error.URLError) as error:
            raise DataError(f"{url}: cannot be downloaded: {error}") from error

    return _fill(folder, fetch) / name


def _unpack(archive: Path) -> Path:
    """The archive's content; if that is a single folder, then this one."""
    stat = archive.stat()
    folder = _cached("archives", f"{archive.resolve()} {stat.st_size} {stat.st_mtime_ns}")

    def unpack(target: Path) -> None:
        try:
            if zipfile.is_zipfile(archive):
                _unzip(archive, target)
            else:
                with tarfile.open(archive) as file:
                    file.extractall(target, filter="data")
        except (OSError, zipfile.BadZipFile, tarfile.TarError, RuntimeError, NotImplementedError) as error:
            raise DataError(f"{archive}: cannot be unpacked: {error}") from error

    if not folder.is_dir():
        _fill(folder, unpack)
    inside = [path for path in folder.iterdir() if not is_clutter(path)]
    return inside[0] if len(inside) == 1 and inside[0].is_dir() else folder


def _unzip(archive: Path, target: Path) -> None:
    with zipfile.ZipFile(archive) as file:
        size = sum(entry.file_size for entry in file.infolist())
        if size > shutil.disk_usage(target).free:
            raise DataError(f"{archive}: holds {size / 1e9:.1f} GB, and there is less room in {hub.cache_folder()}.")
        for entry in file.infolist():
            # Windows in Korea writes names in cp949, without saying so; zipfile takes them for cp437.
            if not entry.flag_bits & 0x800 and not entry.filename.isascii():
                entry.filename = _renamed(entry.filename)
            file.extract(entry, target)


def _renamed(name: str) -> str:
    raw = name.encode("cp437")
    for encoding in ("utf-8", "cp949"):
        try:
            return raw.decode(encoding)
        except UnicodeDecodeError:
            continue
    return name


def _cached(kind: str, key: str) -> Path:
    return hub.cache_folder() / "quartet" / kind / hashlib.sha256(key.encode()).hexdigest()[:24]


def _fill(folder: Path, write: Callable[[Path], None]) -> Path:
    """Fills a folder of the cache; it appears when it is complete."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix="draft-", dir=folder.parent))
    try:
        write(draft)
        draft.rename(folder)
    except BaseException as error:
        shutil.rmtree(draft, ignore_errors=True)
        # Another process may have been faster.
        if not (isinstance(error, OSError) and folder.is_dir()):
            raise
    return folder
