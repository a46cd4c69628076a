"""Where data comes from: a path, an archive, or a URL; each becomes a file or folder on disk."""

import hashlib
import os
import shutil
import tarfile
import tempfile
import urllib.parse
import urllib.request
import zipfile
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.progress import wrap_file

from training.data import hub
from training.data.dataset import DataError

_ARCHIVES = (".tar.gz", ".tar.bz2", ".tar.xz", ".zip", ".tar", ".tgz")
# What archive programs and file managers add.
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
    path = (
        _download(source)
        if _is_url(source)
        else hub.local_path(source, hint, folder=folder and not source.lower().endswith(_ARCHIVES))
    )
    if path is None:
        return None
    if path.is_file() and path.name.lower().endswith(_ARCHIVES):
        path = _unpack(path)
    if folder and not path.is_dir():
        raise DataError(f"{source}: no such folder. {hint}")
    return path


def is_clutter(path: Path | str) -> bool:
    """Whether a file or folder is hidden, or was made by a file manager or an archive program."""
    name = os.path.basename(path)
    return name.startswith(".") or name in _CLUTTER


def visible(folder: Path) -> list[Path]:
    """What is in a folder, in order, without clutter; nothing if it is no folder."""
    return sorted(path for path in folder.iterdir() if not is_clutter(path)) if folder.is_dir() else []


def files_below(folder: Path) -> list[str]:
    """The paths of all files below a folder, in order, without clutter."""
    found = []
    for parent, folders, names in os.walk(folder, followlinks=True):
        folders[:] = sorted(name for name in folders if not is_clutter(name))
        found += [os.path.join(parent, name) for name in sorted(names) if not is_clutter(name)]
    return found


def kinds_of(files: Sequence[str]) -> str:
    """How many files of each suffix there are, for messages."""
    counts = Counter(os.path.splitext(path)[1].lower() or "without a suffix" for path in files)
    return ", ".join(f"{count:,} {suffix}" for suffix, count in counts.most_common(8)) or "no file"


def name_of(source: str) -> str:
    """What to call a data set: its hub id, or the name of its folder or file without suffixes."""
    if _is_url(source):
        path = Path(_url_path(source))
    else:
        path = Path(source).expanduser()
        if not path.exists():
            return source
        path = path.resolve()
        if path.is_dir():
            return path.name
    suffix = next((suffix for suffix in _ARCHIVES if path.name.lower().endswith(suffix)), path.suffix)
    return path.name[: len(path.name) - len(suffix)]


def _is_url(source: str) -> bool:
    return source.startswith(("http://", "https://"))


def _url_path(url: str) -> str:
    return urllib.parse.unquote(urllib.parse.urlsplit(url).path)


def _download(url: str) -> Path:
    name = Path(_url_path(url)).name or "data"

    def fetch(folder: Path) -> None:
        try:
            with (
                urllib.request.urlopen(url, timeout=60) as response,  # noqa: S310 - only http and https come here
                (folder / name).open("wb") as file,
            ):
                total = int(response.headers.get("content-length") or 0)
                with wrap_file(response, total, description=f"Downloading {name}", transient=True) as read:
                    shutil.copyfileobj(read, file)
        except (OSError, ValueError) as error:
            raise DataError(f"{url}: cannot be downloaded: {error}") from error

    return _cached("downloads", url, fetch) / name


def _unpack(archive: Path) -> Path:
    """The archive's content; if that is a single folder, then this one."""

    def unpack(folder: Path) -> None:
        try:
            if zipfile.is_zipfile(archive):
                _unzip(archive, folder)
            else:
                with tarfile.open(archive) as file:
                    file.extractall(folder, filter="data")
        except (OSError, zipfile.BadZipFile, tarfile.TarError, RuntimeError, NotImplementedError) as error:
            raise DataError(f"{archive}: cannot be unpacked: {error}") from error

    stat = archive.stat()
    folder = _cached("archives", f"{archive.resolve()} {stat.st_size} {stat.st_mtime_ns}", unpack)
    inside = visible(folder)
    return inside[0] if len(inside) == 1 and inside[0].is_dir() else folder


def _unzip(archive: Path, folder: Path) -> None:
    with _open_zip(archive) as file:
        size = sum(entry.file_size for entry in file.infolist())
        if size > shutil.disk_usage(folder).free:
            raise DataError(f"{archive}: holds {size / 1e9:.1f} GB, and there is less room in {hub.cache_folder()}.")
        file.extractall(folder)  # noqa: S202 - zipfile removes drives and `..` from names


def _open_zip(archive: Path) -> zipfile.ZipFile:
    for encoding in ("utf-8", "cp949"):  # Windows in Korea writes names in cp949, without saying so
        try:
            return zipfile.ZipFile(archive, metadata_encoding=encoding)
        except UnicodeDecodeError:
            continue
    return zipfile.ZipFile(archive)


def _cached(kind: str, key: str, write: Callable[[Path], None]) -> Path:
    """A folder of the cache, filled by `write` if it is not there; it appears when it is complete."""
    folder = hub.cache_folder() / "quartet" / kind / hashlib.sha256(key.encode()).hexdigest()[:24]
    if folder.is_dir():
        return folder
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
