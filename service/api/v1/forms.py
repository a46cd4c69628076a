"""Content types with a charset, and files of a multipart form.

The only module that relies on undocumented parts of Starlette's form parser.
"""

import asyncio
import sys
from collections.abc import AsyncGenerator

from python_multipart.multipart import parse_options_header
from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from service.errors import BodyTooLarge, InvalidRequest, UnsupportedMediaType, shown
from service.tasks.call import Upload

# Bytes of a form that are parsed before the event loop gets to serve others; a file in it costs the more.
_SLICE = 1 << 16
_CHARSETS = (b"utf-8", b"us-ascii")


class _Form(MultiPartParser):
    """Starlette's parser, which would drop the last file of a form that breaks off without a word.

    `on_end` is the callback that it has python-multipart call after the closing boundary.
    """

    ended = False
    # The body is in memory already; its files are no more on disk.
    spool_max_size = sys.maxsize

    def on_end(self) -> None:
        self.ended = True


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


async def read_form(headers: Headers, body: bytes, limit: int) -> list[Upload]:
    """The files of the form's field `files`, at least one.

    Args:
        headers: of the request; they name the boundary and, if any, a charset that `check_charset` lets pass.
        body: of the request.
        limit: how many files are accepted.

    Raises:
        BodyTooLarge: there are more.
        InvalidRequest: the form is malformed, or holds no file.
    """

    async def stream() -> AsyncGenerator[bytes, None]:
        for start in range(0, len(body), _SLICE):
            yield body[start : start + _SLICE]
            await asyncio.sleep(0)
        if not parser.ended:
            raise MultiPartException("it breaks off before its closing boundary.")

    try:
        parser = _Form(headers, stream(), max_files=limit, max_fields=limit)
        form = await parser.parse()
    except MultiPartException as error:
        if error.message.startswith("Too many files"):
            raise BodyTooLarge(
                f"The request holds over {limit} images; at most {limit} are accepted: send several requests."
            ) from None
        raise InvalidRequest(f"The form cannot be read: {shown(error.message, 200)}") from None
    try:
        files = [value for value in form.getlist("files") if isinstance(value, UploadFile)]
        if not files:
            raise InvalidRequest("The form has no file in the field 'files': curl -F files=@cat.jpg sends one.")
        return [Upload(file.filename or None, await file.read()) for file in files]
    finally:
        await form.close()
