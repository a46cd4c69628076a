"""The character encoding of a file: as it is stated, or detected."""

import codecs
from pathlib import Path

import charset_normalizer

from training.data.dataset import DataError

_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# Those that office programs still write; the more there are, the more often a short text fits a wrong one.
_CANDIDATES = [
    "cp949", "cp932", "gb18030", "big5", "cp1250", "cp1251", "cp1252", "cp1253", "cp1254", "cp1255", "cp1256",
]  # fmt: skip
_SAMPLE = 1 << 18
_CHUNK = 1 << 20


def find_encoding(path: Path, stated: str | None) -> tuple[str, bool]:
    """The encoding of a text file, and whether it had to be guessed.

    Args:
        path: of the file, all of which is read.
        stated: by the user, as Python names it; None to find out.

    Raises:
        DataError: no such encoding, or the file is not in it; the message names the line.
    """
    with path.open("rb") as file:
        head = file.read(4)
    encoding = next((name for bom, name in _BOMS if head.startswith(bom)), "")
    if stated:
        try:
            name = codecs.lookup(stated).name
        except LookupError:
            raise DataError(f"--encoding {stated}: no such encoding; utf-8, cp949, cp1252 and utf-16 are.") from None
        encoding = encoding if encoding.startswith(name) else name
    if encoding:
        _check(path, encoding)
        return encoding, False
    sample = _not_ascii(path)
    if sample.count(0) > len(sample) // 8:
        # Nothing but UTF-16 has so many zero bytes; most characters of a table have theirs at odd offsets.
        encoding = "utf-16-le" if sample[1::2].count(0) >= sample[::2].count(0) else "utf-16-be"
    else:
        try:
            _check(path, "utf-8")
            return "utf-8", False
        except DataError as error:
            best = charset_normalizer.from_bytes(sample, cp_isolation=_CANDIDATES).best()
            if best is None:
                raise DataError(f"{error} Nor is it in another common encoding: name it with --encoding.") from None
            # Several may give the same text; Western European is the commonest of them.
            encoding = "cp1252" if sample.decode("cp1252", errors="replace") == str(best) else best.encoding
    _check(path, encoding)
    return encoding, True


def _not_ascii(path: Path) -> bytes:
    """A sample of the lines that hold more than ASCII."""
    sample = bytearray()
    with path.open("rb") as file:
        start = file.read(_CHUNK)
        if b"\0" in start[:4096]:
            return start
        file.seek(0)
        for line in file:
            if not line.isascii():
                sample += line[: _SAMPLE // 4]
            if len(sample) > _SAMPLE:
                break
    return bytes(sample)


def _check(path: Path, encoding: str) -> None:
    """Decodes the whole file; the error names the first line that is not valid."""
    decoder = codecs.getincrementaldecoder(encoding)()
    lines = 1
    with path.open("rb") as file:
        while True:
            part = file.read(_CHUNK)
            try:
                lines += decoder.decode(part, final=not part).count("\n")
            except UnicodeDecodeError as error:
                lines += part[: error.start].count(b"\n")
                raise DataError(
                    f"{path}:{lines}: is not valid {encoding} ({error.reason}). Name the file's encoding with "
                    "--encoding, such as cp949."
                ) from None
            if not part:
                return
