"""Content types with a charset, and files of a multipart form."""

import io
import itertools
import logging
import math
from typing import cast

from python_multipart import FormParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import Field, File, parse_options_header

from service.errors import BodyTooLarge, InvalidRequest, UnsupportedMediaType, truncate
from service.tasks.call import Upload

# The search for a boundary holds the GIL, so that a body is parsed in slices of this many bytes.
_SLICE = 1 << 18
_CHARSETS = (b"utf-8", b"us-ascii")
# Malformed forms cause warnings, which would let clients fill the log.
logging.getLogger("python_multipart").setLevel(logging.CRITICAL)


def check_charset(content_type: bytes) -> None:
    """Refuses a Content-Type with another charset than UTF-8.

    Raises:
        UnsupportedMediaType: it names another charset.
    """
    if b"charset" not in content_type.lower():
        return  # parsing takes longer
    charset = parse_options_header(content_type)[1].get(b"charset", _CHARSETS[0])
    if charset.lower() not in _CHARSETS:
        stated = truncate(charset.decode("latin-1"))
        raise UnsupportedMediaType(f"The charset {stated} is not read here: send UTF-8, and leave the charset out.")


def read_form(content_type: bytes, body: bytes, limit: int) -> list[Upload]:
    """The files of the form's field `files`, at least one and at most `limit`.

    Raises:
        BodyTooLarge: the form has more parts.
        InvalidRequest: the form is malformed, or holds no file.
    """
    uploads: list[Upload] = []
    parts = itertools.count(1)
    ended = False

    def on_part(_part: Field | File) -> None:
        if next(parts) > limit:
            raise BodyTooLarge(
                f"The request holds over {limit} images; at most {limit} are accepted: send several requests."
            )

    def on_file(file: File) -> None:
        on_part(file)
        if file.field_name == b"files":
            name = (file.file_name or b"").decode("utf-8", "replace")
            uploads.append(Upload(name or None, cast(io.BytesIO, file.file_object).getvalue()))

    def on_end() -> None:
        nonlocal ended
        ended = True

    boundary = parse_options_header(content_type)[1].get(b"boundary")
    if not boundary:
        raise InvalidRequest("The form cannot be read: its content type names no boundary.")
    try:
        in_memory = {"MAX_MEMORY_FILE_SIZE": math.inf}
        parser = FormParser("multipart/form-data", on_part, on_file, on_end, boundary, config=in_memory)
        for start in range(0, len(body), _SLICE):
            parser.write(body[start : start + _SLICE])
    except FormParserError as error:
        raise InvalidRequest(f"The form cannot be read: {truncate(str(error), 200)}") from None
    if not ended:
        raise InvalidRequest("The form cannot be read: it breaks off before its closing boundary.")
    if not uploads:
        raise InvalidRequest("The form has no file in the field 'files': curl -F files=@cat.jpg sends one.")
    return uploads
