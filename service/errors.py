"""Every failure that a client or an operator can meet, each with its HTTP status and problem type."""

import math
from collections.abc import Callable, Iterable, Sequence
from http import HTTPStatus
from typing import NamedTuple


def truncate(text: str, limit: int = 80) -> str:
    """Shortens client text for messages."""
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


class Fault(NamedTuple):
    """One of the things that are wrong with a request.

    Attributes:
        detail: what is wrong.
        parameter: the name of the option.
        pointer: where it is in the body, a JSON pointer as a URI fragment (RFC 6901), such as `#/rows/0/age`.
    """

    detail: str
    parameter: str | None = None
    pointer: str | None = None


class QuartetError(Exception):
    """A failure with a sentence that says what to do about it.

    Attributes:
        status: the HTTP status that answers it.
        slug: the stable name of the failure: the problem's `code`, and the end of its `type` URI (RFC 9457).
        faults: all that is wrong with the request, where more is known than the sentence.
        retry_after: seconds to wait before trying again, where that helps.
        early: whether the client was told so before, and did not wait.
        index: which item of a request with several it is about, from 0.
        hang_up: whether the connection closes with the answer, because the rest of the request is not read.
        longest_hold: seconds for which the answer is held back at most, to slow clients that retry at once.
    """

    status: int = HTTPStatus.INTERNAL_SERVER_ERROR
    slug: str = "internal-error"
    faults: Sequence[Fault] = ()
    hang_up: bool = False
    longest_hold: float = math.inf

    def __init__(
        self,
        detail: str,
        *,
        index: int | None = None,
        retry_after: float | None = None,
        early: bool = False,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.index = index
        self.retry_after = retry_after
        self.early = early

    def title(self) -> str:
        """The slug in words."""
        return self.slug.replace("-", " ").capitalize()

    @property
    def headers(self) -> dict[str, str]:
        """Of the response, in lower case."""
        headers = {}
        if self.retry_after is not None:
            headers["retry-after"] = str(max(1, math.ceil(self.retry_after)))
        if self.hang_up:
            headers["connection"] = "close"
        return headers


class UndecodableImage(QuartetError):
    """Bytes that are no image, or a damaged one."""

    status = HTTPStatus.UNPROCESSABLE_ENTITY
    slug = "undecodable-image"


class ImageTooLarge(QuartetError):
    """An image whose header declares more pixels than the limit."""

    status = HTTPStatus.UNPROCESSABLE_ENTITY
    slug = "image-too-large"


class InvalidRequest(QuartetError):
    """A parameter, a header or a body that does not say what it must.

    Args:
        detail: what is wrong, and what to do.
        parameter: the option at fault, if it is one.
        pointer: the value in the body at fault, as of `Fault`.
        faults: all that is wrong, if there is more; see `service.faults.Faults`.
        index: as of `QuartetError`.
    """

    status = HTTPStatus.UNPROCESSABLE_ENTITY
    slug = "invalid-request"

    def __init__(
        self,
        detail: str,
        *,
        parameter: str | None = None,
        pointer: str | None = None,
        faults: Sequence[Fault] = (),
        index: int | None = None,
    ) -> None:
        super().__init__(detail, index=index)
        located = parameter is not None or pointer is not None
        self.faults = [Fault(detail, parameter, pointer)] if located else faults


class UnsupportedMediaType(QuartetError):
    """A content type that the route does not read."""

    status = HTTPStatus.UNSUPPORTED_MEDIA_TYPE
    slug = "unsupported-media-type"


class UriTooLong(QuartetError):
    """A path with its query string over the limit."""

    status = HTTPStatus.REQUEST_URI_TOO_LONG
    slug = "uri-too-long"
    hang_up = True

    def title(self) -> str:
        return "URI too long"


class BodyTooLarge(QuartetError):
    """A body, or a number of items, over the limit."""

    status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    slug = "body-too-large"
    hang_up = True


class UnknownModel(QuartetError):
    """No model of that name is served.

    Args:
        what: says so, without a full stop.
        served: the models that there are.
    """

    status = HTTPStatus.NOT_FOUND
    slug = "unknown-model"

    def __init__(self, what: str, served: Iterable[str] = ()) -> None:
        self._what = what
        self._served = sorted(served)
        super().__init__("")
        self.show(lambda _: True)

    def show(self, visible: Callable[[str], bool]) -> None:
        """Names only those of the served models that the client may know of."""
        names = ", ".join(filter(visible, self._served))
        self.detail = f"{self._what}: there are {names}." if names else f"{self._what}."

    def __str__(self) -> str:
        return self.detail


class Unauthorized(QuartetError):
    """No API key, or one that is not valid."""

    status = HTTPStatus.UNAUTHORIZED
    slug = "unauthorized"


class Forbidden(QuartetError):
    """What the API key may not do."""

    status = HTTPStatus.FORBIDDEN
    slug = "forbidden"


class RateLimited(QuartetError):
    """More requests or items than the API key may send."""

    status = HTTPStatus.TOO_MANY_REQUESTS
    slug = "rate-limited"
    # The time to come back is exact, and the key says who does not wait for it.
    longest_hold = 0.1


class NotFound(QuartetError):
    """A path that leads nowhere, or something below an existing model that is not there."""

    status = HTTPStatus.NOT_FOUND
    slug = "not-found"


class MethodNotAllowed(QuartetError):
    """A method that the path does not take."""

    status = HTTPStatus.METHOD_NOT_ALLOWED
    slug = "method-not-allowed"


class Conflict(QuartetError):
    """A change that the present state does not permit."""

    status = HTTPStatus.CONFLICT
    slug = "conflict"


class WrongTask(QuartetError):
    """A model that is served, but by another route."""

    status = HTTPStatus.UNPROCESSABLE_ENTITY
    slug = "wrong-task"


class Overloaded(QuartetError):
    """More work than fits the queue or the deadline."""

    status = HTTPStatus.TOO_MANY_REQUESTS
    slug = "overloaded"


class Draining(QuartetError):
    """The server is starting or shutting down."""

    status = HTTPStatus.SERVICE_UNAVAILABLE
    slug = "not-ready"


class ModelBroken(QuartetError):
    """A model hangs, or fails at whatever it is given."""

    status = HTTPStatus.SERVICE_UNAVAILABLE
    slug = "model-broken"


class DeadlineExceeded(QuartetError):
    """The answer came too late, or would have."""

    status = HTTPStatus.GATEWAY_TIMEOUT
    slug = "deadline-exceeded"


class InferenceFailed(QuartetError):
    """The model raised on this input."""

    slug = "inference-failed"


class Abandoned(Exception):
    """Nobody waits for the answer any more: the client has hung up."""


class NotOffered(QuartetError):
    """An optional part of a protocol that the server does not have."""

    status = HTTPStatus.NOT_IMPLEMENTED
    slug = "not-offered"
