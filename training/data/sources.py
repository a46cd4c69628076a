"""Where data comes from (a path, an archive or a URL becomes a file or folder on disk), and how text is encoded."""

import codecs
import contextlib
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
from itertools import chain, islice
from pathlib import Path

import charset_normalizer
from rich.progress import wrap_file

from training.data import hub
from training.data.dataset import DataError

_ARCHIVES = (".tar.gz", ".tar.bz2", ".tar.xz", ".zip", ".tar", ".tgz")
_URLS = ("http://", "https://")
_BOMS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
# Those that office programs still write; the more there are, the more often a short text fits a wrong one.
_CANDIDATES = [
    "cp949", "cp932", "gb18030", "big5", "cp1250", "cp1251", "cp1252", "cp1253", "cp1254", "cp1255", "cp1256",
]  # fmt: skip


def locate(source: str, hint: str, *, folder: bool = False) -> Path | None:
    """The file or folder that a source names; None for the id of a data set on the hub.

    A URL (`http`, `https`) is downloaded and an archive is unpacked, each once, into the cache of the `datasets`
    library. With `folder`, only a folder or an archive will do. `hint` is added to the error message.

    Raises:
        DataError: nothing is there, the download fails, or the archive cannot be unpacked.
    """
    path = _download(source) if source.startswith(_URLS) else Path(source).expanduser()
    is_archive = path.name.lower().endswith(_ARCHIVES) and path.is_file()
    if folder and path.is_file() and not is_archive:
        raise DataError(f"{source}: is a file where a folder is needed. {hint}")
    if not path.exists():
        if not source.startswith((".", "/", "~", *_URLS)):
            return None
        raise DataError(f"{source}: no such {'folder' if folder else 'file or folder'}. {hint}")
    return _unpack(path) if is_archive else path


def _is_clutter(name: str) -> bool:
    return name.startswith(".") or name in ("__MACOSX", "Thumbs.db", "desktop.ini")


def visible(folder: Path) -> list[Path]:
    """What is in a folder, in order, without clutter; nothing if it is no folder."""
    return sorted(path for path in folder.iterdir() if not _is_clutter(path.name)) if folder.is_dir() else []


def files_below(folder: Path) -> list[str]:
    """The paths of all files below a folder, in order, without clutter."""
    found = []
    for parent, folders, names in os.walk(folder, followlinks=True):
        folders[:] = sorted(name for name in folders if not _is_clutter(name))
        found += [os.path.join(parent, name) for name in sorted(names) if not _is_clutter(name)]
    return found


def kinds_of(files: Sequence[str]) -> str:
    """How many files of each suffix there are, for messages."""
    counts = Counter(os.path.splitext(path)[1].lower() or "without a suffix" for path in files)
    return ", ".join(f"{count:,} {suffix}" for suffix, count in counts.most_common(8)) or "no file"


def name_of(source: str) -> str:
    """What to call a data set: its hub id, or the name of its folder or file without suffixes."""
    path = Path(_url_path(source)) if source.startswith(_URLS) else Path(source).expanduser().resolve()
    if path.is_dir():
        return path.name
    if not path.exists() and not source.startswith(_URLS):
        return source
    suffix = next((suffix for suffix in _ARCHIVES if path.name.lower().endswith(suffix)), path.suffix)
    return path.name[: len(path.name) - len(suffix)]


def find_encoding(path: Path, stated: str | None) -> tuple[str, bool]:
    """The encoding of a text file, all of which is read, and whether it had to be guessed.

    Raises:
        DataError: there is no encoding as `stated`, or the file is not in it; the message names the line.
    """
    with path.open("rb") as file:
        head = file.read(4)
    encoding = next((name for bom, name in _BOMS.items() if head.startswith(bom)), "")
    if stated:
        try:
            name = codecs.lookup(stated).name
        except LookupError:
            raise DataError(f"--encoding {stated}: no such encoding; utf-8, cp949, cp1252 and utf-16 are.") from None
        encoding = encoding if encoding.startswith(name) else name
    try:
        _check(path, encoding or "utf-8")
        return encoding or "utf-8", False
    except DataError as error:
        if encoding:
            raise
        with path.open("rb") as file:
            sample = b"".join(islice((line[: 1 << 16] for line in file if not line.isascii()), 1000))
        best = charset_normalizer.from_bytes(sample, cp_isolation=_CANDIDATES).best()
        if best is None:
            raise DataError(f"{error} Nor is it in another common encoding: name it with --encoding.") from None
    # Several may give the same text; Western European is the commonest of them.
    encoding = "cp1252" if sample.decode("cp1252", errors="replace") == str(best) else best.encoding
    _check(path, encoding)
    return encoding, True


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
    def unpack(folder: Path) -> None:
        try:
            if zipfile.is_zipfile(archive):
                with _open_zip(archive) as packed:
                    size = sum(entry.file_size for entry in packed.infolist())
                    if size > shutil.disk_usage(folder).free:
                        less = f"there is less room in {hub.cache_folder()}"
                        raise DataError(f"{archive}: holds {size / 1e9:.1f} GB, and {less}.")
                    packed.extractall(folder)  # noqa: S202 - zipfile removes drives and `..` from names
            else:
                with tarfile.open(archive) as file:
                    file.extractall(folder, filter="data")
        except (OSError, zipfile.BadZipFile, tarfile.TarError, RuntimeError, NotImplementedError) as error:
            raise DataError(f"{archive}: cannot be unpacked: {error}") from error

    stat = archive.stat()
    folder = _cached("archives", f"{archive.resolve()} {stat.st_size} {stat.st_mtime_ns}", unpack)
    inside = visible(folder)
    return inside[0] if len(inside) == 1 and inside[0].is_dir() else folder


def _open_zip(archive: Path) -> zipfile.ZipFile:
    for encoding in ("utf-8", "cp949"):  # Windows in Korea writes names in cp949, without saying so
        with contextlib.suppress(UnicodeDecodeError):
            return zipfile.ZipFile(archive, metadata_encoding=encoding)
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


def _check(path: Path, encoding: str) -> None:
    """Decodes the whole file; the error names the first line that is not valid."""
    decoder = codecs.getincrementaldecoder(encoding)()
    lines, part = 1, b""
    with path.open("rb") as file:
        try:
            for part in chain(iter(lambda: file.read(1 << 20), b""), [b""]):
                lines += decoder.decode(part, final=not part).count("\n")
        except UnicodeDecodeError as error:
            lines += part[: error.start].count(b"\n")
            what = f"is not valid {encoding} ({error.reason})"
            raise DataError(
                f"{path}:{lines}: {what}. Name the file's encoding with --encoding, such as cp949."
            ) from None
