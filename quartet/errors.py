"""What may go wrong between a program and the service, one class for each kind of failure."""

from collections.abc import Mapping
from typing import Any

_PREFIX = "urn:quartet:problem:"


class QuartetError(Exception):
    """Any failure of a call.

    Attributes:
        index: which item of a list it is about, from 0; None where it is about the whole call.
        name: of that item, where it has one: the path as it was given.
        results: where a call with a list fails as a whole, what was answered until then; None where nothing was.
    """

    index: int | None = None
    name: str | None = None
    results: list[Any] | None = None

    @property
    def detail(self) -> str:
        """What is wrong, and what to do about it."""
        return super().__str__()

    def __str__(self) -> str:
        item = self.name or ("" if self.index is None else f"item {self.index}")
        return f"{item}: {self.detail}" if item else self.detail


class InvalidItem(QuartetError):
    """An item that cannot be sent: a file that is missing, an array that is no image."""


class Unreachable(QuartetError):
    """No answer: the server cannot be reached, ends the connection, or takes too long."""


class Problem(QuartetError):
    """What the service answers where it cannot do what was asked (RFC 9457).

    Args:
        fields: of the problem document.
        retry_after: seconds after which the server expects to have room.

    Attributes:
        status: of HTTP.
        type: stable name of the failure, a URI.
        title: the name in words.
        instance: the path of the request.
        request_id: as in the server's log.
        fields: all of the document, further fields too.
    """

    slug = ""

    def __init__(self, fields: Mapping[str, Any], retry_after: float | None = None) -> None:
        super().__init__(fields, retry_after)
        self.fields = dict(fields)
        self.retry_after = retry_after
        self.status: int = fields["status"]
        self.type: str = fields.get("type") or "about:blank"
        self.title: str = fields.get("title") or ""
        self.instance: str | None = fields.get("instance")
        self.request_id: str | None = fields.get("request_id")
        index = fields.get("index")
        self.index = index if isinstance(index, int) else None

    @property
    def detail(self) -> str:
        return str(self.fields.get("detail") or self.title)


class UndecodableImage(Problem):
    """Bytes that are no image, or a damaged one."""

    slug = "undecodable-image"


class ImageTooLarge(Problem):
    """An image with more pixels than the server accepts."""

    slug = "image-too-large"


class InvalidRequest(Problem):
    """An option or an item that the service cannot use."""

    slug = "invalid-request"


class UnsupportedMediaType(Problem):
    """A content type that the route does not read."""

    slug = "unsupported-media-type"


class BodyTooLarge(Problem):
    """A request of more bytes or items than the server accepts."""

    slug = "body-too-large"


class UnknownModel(Problem):
    """No model of that name is served."""

    slug = "unknown-model"


class Unauthorized(Problem):
    """No API key, or one that is not valid or has expired."""

    slug = "unauthorized"


class Forbidden(Problem):
    """What the API key may not do."""

    slug = "forbidden"


class RateLimited(Problem):
    """More requests or items than the API key may send; `retry_after` has the seconds until it may go on."""

    slug = "rate-limited"


class WrongTask(Problem):
    """A model that another method asks."""

    slug = "wrong-task"


class Overloaded(Problem):
    """The server has more work than it can do in time; `retry_after` has the seconds until it expects room."""

    slug = "overloaded"


class NotReady(Problem):
    """The server is shutting down."""

    slug = "not-ready"


class ModelBroken(Problem):
    """A model answers nothing any more."""

    slug = "model-broken"


class DeadlineExceeded(Problem):
    """The server gave the request up, since it would have been answered too late."""

    slug = "deadline-exceeded"


class InferenceFailed(Problem):
    """The model failed on this item."""

    slug = "inference-failed"


class InternalError(Problem):
    """A fault in the server."""

    slug = "internal-error"


_CLASSES = {each.slug: each for each in Problem.__subclasses__()}


def problem(fields: Mapping[str, Any], retry_after: float | None = None) -> Problem:
    """The problem of a document, in the class of its type; a plain `Problem` for a type that is not known here."""
    code = fields.get("code") or str(fields.get("type")).removeprefix(_PREFIX)  # of a server before `code`
    kind = _CLASSES.get(code, Problem)
    return kind(fields, retry_after)
