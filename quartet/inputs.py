"""Converts what programs hold (paths, bytes, Pillow images, arrays, frames) to what the service reads."""

import datetime
import io
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set, ValuesView
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Protocol, TypeAlias, TypeVar

from quartet.errors import InvalidItemError

if TYPE_CHECKING:
    import PIL.Image

    from quartet.answers import Encoding

_T_co = TypeVar("_T_co", covariant=True)


# What the client accepts of other libraries, as far as type checkers have to tell it apart: none has to be installed.
class Array(Protocol):
    """An array of NumPy, or a tensor that converts to one."""

    @property
    def itemsize(self) -> int: ...

    def __array__(self) -> Any: ...


class PillowImage(Protocol):
    """An image of Pillow."""

    def getexif(self) -> Any: ...


class Series(Protocol[_T_co]):
    """A column or a row of a frame of pandas."""

    def __iter__(self) -> Iterator[_T_co]: ...

    def to_frame(self) -> Any: ...


class Frame(Protocol):
    """A frame of pandas."""

    def itertuples(self) -> Any: ...


Image: TypeAlias = str | os.PathLike[str] | bytes | bytearray | memoryview | IO[bytes] | PillowImage | Array
# Not any iterable: an array is one too, and type checkers could not tell whether it is an image or several.
Images: TypeAlias = Sequence[Image] | Iterator[Image] | Set[Image] | ValuesView[Image] | Series[Image]
Row: TypeAlias = Mapping[str, Any] | Series[Any]
Rows: TypeAlias = Frame | Iterable[Row]
Text: TypeAlias = str | os.PathLike[str]
Latents: TypeAlias = "Sequence[float] | Array | Encoding"
ManyLatents: TypeAlias = Sequence[Latents] | Iterator[Latents]


@dataclass(frozen=True, slots=True)
class Prepared:
    """An item that is ready to be sent.

    Attributes:
        value: bytes of an image file, or what stands for the item in JSON.
        size: about how many bytes it takes in a request.
        name: of the file, where there is one.
        source: a path, from which the item can be read again to be shown.
    """

    value: Any
    size: int
    name: str | None = None
    source: Path | None = None

    @property
    def label(self) -> str | None:
        """What an error calls it: the path as it was given."""
        return self.name if self.source is None else str(self.source)


Prepare = Callable[[Any], Prepared]


def image(item: Any) -> Prepared:
    """An image as the bytes of a file.

    Args:
        item: a path; the bytes of a file; a file that is open for reading bytes; a Pillow image; or an array of uint8,
            shape (height, width) or (height, width, 1, 3 or 4), which is sent as PNG, without loss.

    Raises:
        InvalidItemError: it is none of these, or the file cannot be read.
    """
    if isinstance(item, str | os.PathLike):
        path = Path(item)
        if isinstance(item, str) and re.match(r"(https?|ftp|s3|gs|data|file):", item):
            scheme = item.partition(":")[0]
            raise _invalid(f"a {scheme} URL is not read: download the file, and pass its path or its bytes", item[:200])
        try:
            data = path.read_bytes()
        except OSError as error:
            raise _unreadable(path, error) from error
        return Prepared(data, len(data), path.name, path)
    if isinstance(item, bytes | bytearray | memoryview):
        data = bytes(item)
    elif hasattr(item, "read"):
        data = item.read()
        if not isinstance(data, bytes):
            raise _invalid("the file must be open for reading bytes, with mode 'rb'")
    elif _is_from(item, "PIL"):
        data = _png(item)
    elif hasattr(item, "__array__"):
        data = _png_of_array(item)
    else:
        raise _invalid(f"{type(item).__name__} is not an image: pass a path, bytes, a Pillow image or an array")
    return Prepared(data, len(data))


def text(item: Any) -> Prepared:
    """A text: a string, or the path of a file in UTF-8.

    Raises:
        InvalidItemError: it is something else, as a missing value in a column, or the file cannot be read.
    """
    if isinstance(item, str):
        return Prepared(item, 4 * len(item))
    if not isinstance(item, os.PathLike):
        raise _invalid(f"{type(item).__name__} is not a text: pass a string, or the Path of a file")
    path = Path(item)
    try:
        content = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable(path, error) from error
    return Prepared(content, 4 * len(content), path.name, path)


def row(item: Any) -> Prepared:
    """A row: a mapping, or a row of a frame, from columns to values; None, NaN and NaT are missing values.

    Raises:
        InvalidItemError: a value is neither a number, a text, a date nor missing.
    """
    if not isinstance(item, Mapping) and not hasattr(item, "items"):
        raise _invalid(f"{type(item).__name__} is not a row: pass a mapping from columns to values")
    cells = {str(column): _cell(value, column) for column, value in item.items()}
    return Prepared(cells, sum(len(column) + 24 for column in cells))


def latents(item: Any) -> Prepared:
    """Latents: numbers, or an `Encoding`.

    Raises:
        InvalidItemError: they are something else.
    """
    values = getattr(item, "latents", item)
    try:
        numbers = [float(value) for value in values]
    except (TypeError, ValueError) as error:
        raise _invalid(f"the latents are not a list of numbers ({error})") from error
    return Prepared(numbers, 24 * len(numbers))


def is_one_image(images: Any) -> bool:
    """Whether this is an image, not several."""
    if isinstance(images, str | os.PathLike | bytes | bytearray | memoryview) or hasattr(images, "read"):
        return True
    return _is_from(images, "PIL") or (getattr(images, "ndim", 0) in (2, 3) and not _is_from(images, "pandas"))


def is_one_row(rows: Any) -> bool:
    """Whether this is a row, not several."""
    return isinstance(rows, Mapping) or (_is_from(rows, "pandas") and rows.ndim == 1)


def is_one_vector(vectors: Any) -> bool:
    """Whether these are the latents of one image."""
    if hasattr(vectors, "ndim"):
        return bool(vectors.ndim == 1) and not _is_from(vectors, "pandas")
    if hasattr(vectors, "latents"):
        return True
    return isinstance(vectors, Sequence) and bool(vectors) and isinstance(vectors[0], int | float)


def items_of(many: Any) -> Iterable[Any]:
    """The items of a collection; of a frame its rows."""
    if _is_from(many, "pandas") and many.ndim == 2:
        return (dict(zip(many.columns, values, strict=True)) for values in many.itertuples(index=False, name=None))
    if not isinstance(many, Iterable) or isinstance(many, Mapping):
        raise TypeError(f"{type(many).__name__} is neither an item nor a collection of items")
    return many


def index_of(many: Any) -> Any:
    """The index of a frame or a series; None for everything else."""
    return many.index if _is_from(many, "pandas") else None


def _is_from(item: Any, package: str) -> bool:
    """Whether an object is of a package, which then need not be imported."""
    return any(kind.__module__.partition(".")[0] == package for kind in type(item).__mro__)


def _unreadable(path: Path, error: Exception) -> InvalidItemError:
    return _invalid(f"the file cannot be read ({getattr(error, 'strerror', None) or error})", str(path))


def _invalid(message: str, name: str | None = None) -> InvalidItemError:
    error = InvalidItemError(message)
    error.name = name
    return error


def _png_of_array(item: Any) -> bytes:
    import numpy as np

    array = np.asarray(item)
    if array.dtype != np.uint8:
        raise _invalid(f"an array of {array.dtype} is not an image: pass uint8, from 0 to 255")
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    if array.ndim != 2 and (array.ndim != 3 or array.shape[2] not in (3, 4)):
        raise _invalid(
            f"an array of shape {array.shape} is not an image: pass (height, width) or (height, width, 1, 3 or 4), and "
            "(images, height, width, channels) for several"
        )
    try:
        import PIL.Image
    except ModuleNotFoundError:
        raise _invalid("arrays are sent as PNG, for which Pillow is needed: pip install pillow") from None
    return _png(PIL.Image.fromarray(array))


def _png(picture: "PIL.Image.Image") -> bytes:
    """A picture without loss; its EXIF, so that it is rotated as the file would be."""
    if picture.mode not in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"):
        picture = picture.convert("RGB")
    data = io.BytesIO()
    picture.save(data, "PNG", compress_level=1, exif=picture.getexif())
    return data.getvalue()


def _cell(value: Any, column: Any) -> Any:
    """A value of a table as JSON has it."""
    if hasattr(value, "item") and not isinstance(value, str):
        value = value.item()  # a scalar of numpy
    if value is None or type(value).__name__ == "NAType" or value != value:  # pandas.NA is unequal to nothing
        return None
    if isinstance(value, datetime.date):
        return value.isoformat()
    if isinstance(value, bool | int | float | str):
        return value
    raise _invalid(f"column {column!r}: {type(value).__name__} is neither a number nor a text")
