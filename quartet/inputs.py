"""What programs hold (paths, bytes, Pillow images, arrays, frames) as the service reads it."""

import datetime
import io
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeAlias

from quartet.errors import InvalidItemError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas
    import PIL.Image

    Image: TypeAlias = str | os.PathLike[str] | bytes | BinaryIO | PIL.Image.Image | npt.NDArray[np.uint8]
    Images: TypeAlias = Iterable[Image]
    Row: TypeAlias = Mapping[str, Any] | pandas.Series[Any]
    Latents: TypeAlias = Sequence[float] | npt.NDArray[np.floating[Any]] | Any


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
        raise _invalid(f"{type(item).__name__} is no image: give a path, bytes, a Pillow image or an array")
    return Prepared(data, len(data))


def text(item: Any) -> Prepared:
    """A text: a string, or the path of a file in UTF-8.

    Raises:
        InvalidItemError: it is something else, as a missing value in a column, or the file cannot be read.
    """
    if isinstance(item, str):
        return Prepared(item, 4 * len(item))
    if not isinstance(item, os.PathLike):
        raise _invalid(f"{type(item).__name__} is no text: give a string, or a Path of a file")
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
        raise _invalid(f"{type(item).__name__} is no row: give a mapping from the columns to their values")
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
        raise _invalid(f"the latents are no list of numbers ({error})") from error
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
        raise _invalid(f"an array of {array.dtype} is no image: give uint8, from 0 to 255")
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    if array.ndim != 2 and (array.ndim != 3 or array.shape[2] not in (3, 4)):
        raise _invalid(
            f"an array of shape {array.shape} is no image: give (height, width) or (height, width, 1, 3 or 4), and "
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
