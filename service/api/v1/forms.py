"""Content types with a charset, and files of a multipart form."""

from typing import Any

from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header

from service.errors import BodyTooLarge, InvalidRequest, UnsupportedMediaType, shown
from service.tasks.call import Upload

# Bytes that are searched for a boundary at once: the search holds the GIL.
_SLICE = 1 << 18
_CHARSETS = (b"utf-8", b"us-ascii")


def check_charset(content_type: bytes) -> None:
    """Refuses text in another charset than UTF-8, before anything looks for it: Python remembers each failed search.

    Args:
        content_type: the header, which Starlette's parser reads in the same way.

    Raises:
        UnsupportedMediaType: it names another one.
    """
    if b"charset" not in content_type.lower():
        return  # as nearly always; what follows takes longer
    charset = parse_options_header(content_type)[1].get(b"charset", _CHARSETS[0])
    if charset.lower() not in _CHARSETS:
        raise UnsupportedMediaType(
            f"The charset {shown(charset.decode('latin-1'))} is not read here: send UTF-8, and leave the charset out."
        )


def read_form(content_type: bytes, body: bytes, limit: int) -> list[Upload]:
    """The files of the form's field `files`, at least one.

    Args:
        content_type: the header; it names the boundary.
        body: of the request.
        limit: how many files are accepted.

    Raises:
        BodyTooLarge: there are more.
        InvalidRequest: the form is malformed, or holds no file.
    """
    boundary = parse_options_header(content_type)[1].get(b"boundary")
    if not boundary:
        raise InvalidRequest("The form cannot be read: its content type names no boundary.")
    form = _Form(limit)
    try:
        parser = MultipartParser(boundary, form.callbacks())
        for start in range(0, len(body), _SLICE):
            parser.write(body[start : start + _SLICE])
    except FormParserError as error:
        raise InvalidRequest(f"The form cannot be read: {shown(str(error), 200)}") from None
    if not form.ended:
        raise InvalidRequest("The form cannot be read: it breaks off before its closing boundary.")
    if not form.files:
        raise InvalidRequest("The form has no file in the field 'files': curl -F files=@cat.jpg sends one.")
    return form.files


class _Form:
    """Collects what the parser finds; its other methods are the parser's callbacks.

    Attributes:
        files: of the field `files`, in order.
        ended: whether the closing boundary was there.
    """

    def __init__(self, limit: int) -> None:
        self.files: list[Upload] = []
        self.ended = False
        self._limit = limit
        self._parts = 0
        self._header = b""
        self._value = b""
        self._disposition: dict[bytes, bytes] = {}
        self._data: list[bytes] = []

    def callbacks(self) -> Any:
        names = ("part_begin", "part_data", "part_end", "header_field", "header_value", "header_end", "end")
        return {f"on_{name}": getattr(self, name) for name in names}

    def part_begin(self) -> None:
        self._parts += 1
        if self._parts > self._limit:
            raise BodyTooLarge(
                f"The request holds over {self._limit} images; at most {self._limit} are accepted: send several "
                "requests."
            )
        self._disposition, self._data = {}, []

    def header_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def header_end(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = parse_options_header(self._value)[1]
        self._header = self._value = b""

    def part_data(self, data: bytes, start: int, end: int) -> None:
        self._data.append(data[start:end])

    def part_end(self) -> None:
        if self._disposition.get(b"name") == b"files" and b"filename" in self._disposition:
            name = self._disposition[b"filename"].decode("utf-8", "replace")
            self.files.append(Upload(name or None, b"".join(self._data)))
        self._data = []

    def end(self) -> None:
        self.ended = True
