"""The failures of a call, one class for each kind."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


class QuartetError(Exception):
    """Any failure of a call.

    Attributes:
        index: of the item in a list, from 0; None if the failure is about the whole call.
        name: of the item, if it has one: the path as it was given.
        results: if a call with a list fails, the answers that were complete, from the first item on; or None.
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


class InvalidItemError(QuartetError):
    """An item cannot be sent: a file is missing, or an array is not an image."""


class ClosedError(QuartetError):
    """The client has been closed."""


class UnreachableError(QuartetError):
    """There is no answer: the server cannot be reached, or ends the connection."""


class TimedOutError(UnreachableError, TimeoutError):
    """The answer takes longer than the timeout of the client or of the call."""


@dataclass(frozen=True, slots=True)
class InvalidField:
    """One of the validation errors of a request.

    Attributes:
        detail: what is wrong.
        parameter: the query parameter, if it is one.
        pointer: into the body otherwise, such as `#/rows/0/age` (RFC 6901).
    """

    detail: str
    parameter: str | None = None
    pointer: str | None = None


class ProblemError(QuartetError):
    """The service refused the request or failed (RFC 9457).

    Args:
        fields: of the problem document.
        retry_after: seconds after which the server expects to have room.

    Attributes:
        status: of HTTP.
        code: stable name of the problem, such as `unknown-model`; empty if it is not one of the service's.
        type: URI of the page that explains the problem.
        title: of the problem.
        errors: all validation errors.
        instance: the path of the request.
        request_id: as in the server's log.
        fields: the whole document.
    """

    slug = ""

    def __init__(self, fields: Mapping[str, Any], retry_after: float | None = None) -> None:
        super().__init__(fields, retry_after)
        self.fields = dict(fields)
        self.retry_after = retry_after
        self.status: int = fields["status"]
        self.code = _code_of(fields)
        self.type: str = fields.get("type") or "about:blank"
        self.title: str = fields.get("title") or ""
        self.errors = tuple(map(_invalid_field, fields.get("errors") or ()))
        self.instance: str | None = fields.get("instance")
        self.request_id: str | None = fields.get("request_id")
        index = fields.get("index")
        self.index = index if isinstance(index, int) else None

    @property
    def detail(self) -> str:
        return str(self.fields.get("detail") or self.title)


class UndecodableImageError(ProblemError):
    """The bytes are not an image, or the image is damaged."""

    slug = "undecodable-image"


class ImageTooLargeError(ProblemError):
    """The image has more pixels than the server accepts."""

    slug = "image-too-large"


class InvalidRequestError(ProblemError):
    """An option or an item is invalid; `errors` lists all of them."""

    slug = "invalid-request"


class UnsupportedMediaTypeError(ProblemError):
    """The route does not accept the content type."""

    slug = "unsupported-media-type"


class BodyTooLargeError(ProblemError):
    """The request has more bytes or items than the server accepts."""

    slug = "body-too-large"


class UnknownModelError(ProblemError):
    """No model of that name is served."""

    slug = "unknown-model"


class UnauthorizedError(ProblemError):
    """There is no API key, or it is invalid or expired."""

    slug = "unauthorized"


class ForbiddenError(ProblemError):
    """The API key may not do this."""

    slug = "forbidden"


class RateLimitedError(ProblemError):
    """The API key has sent more than its rates allow; `retry_after` has the seconds until it may go on."""

    slug = "rate-limited"


class WrongTaskError(ProblemError):
    """The model is for another method."""

    slug = "wrong-task"


class OverloadedError(ProblemError):
    """The server has more work than it can do in time; `retry_after` has the seconds until it expects room."""

    slug = "overloaded"


class NotReadyError(ProblemError):
    """The server is shutting down."""

    slug = "not-ready"


class ModelBrokenError(ProblemError):
    """The model hangs or fails on every batch."""

    slug = "model-broken"


class DeadlineExceededError(ProblemError):
    """The server gave up on the request, which took too long."""

    slug = "deadline-exceeded"


class InferenceFailedError(ProblemError):
    """The model failed on this item."""

    slug = "inference-failed"


class InternalError(ProblemError):
    """A fault in the server."""

    slug = "internal-error"


_CLASSES = {each.slug: each for each in ProblemError.__subclasses__()}


def problem(fields: Mapping[str, Any], retry_after: float | None = None) -> ProblemError:
    """The problem of a document, in the class of its code; a plain `ProblemError` for an unknown code."""
    return _CLASSES.get(_code_of(fields), ProblemError)(fields, retry_after)


def _code_of(fields: Mapping[str, Any]) -> str:
    """The stable name of a problem; older servers state it only at the end of the type, `urn:quartet:problem:CODE`."""
    code = fields.get("code") or str(fields.get("type") or "").removeprefix("urn:quartet:problem:")
    return code if isinstance(code, str) and ":" not in code and "/" not in code else ""


def _invalid_field(entry: Any) -> InvalidField:
    given = entry if isinstance(entry, Mapping) else {"detail": entry}
    return InvalidField(str(given.get("detail", "")), given.get("parameter"), given.get("pointer"))
