"""Every error has its own status and type."""

import pytest

from service import errors

FAILURES = [
    value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, errors.QuartetError)
]

STATUS = {
    "QuartetError": 500,
    "UndecodableImage": 422,
    "ImageTooLarge": 422,
    "InvalidRequest": 422,
    "UnsupportedMediaType": 415,
    "BodyTooLarge": 413,
    "UriTooLong": 414,
    "UnknownModel": 404,
    "NotFound": 404,
    "NotOffered": 501,
    "MethodNotAllowed": 405,
    "Conflict": 409,
    "Unauthorized": 401,
    "Forbidden": 403,
    "RateLimited": 429,
    "WrongTask": 422,
    "Overloaded": 429,
    "Draining": 503,
    "ModelBroken": 503,
    "DeadlineExceeded": 504,
    "InferenceFailed": 500,
}


@pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: failure.__name__)
def test_its_status(failure: type[errors.QuartetError]):
    assert failure.status == STATUS[failure.__name__]


def test_types_are_unique():
    assert len({failure.slug for failure in FAILURES}) == len(FAILURES)


def test_an_error_carries_its_attributes():
    error = errors.Overloaded("Later.", index=3, retry_after=2.5)
    assert (str(error), error.detail, error.index, error.retry_after) == ("Later.", "Later.", 3, 2.5)
    assert errors.UndecodableImage("No image.").title() == "Undecodable image"


def test_client_text_is_truncated():
    assert errors.truncate("short") == "short"
    assert errors.truncate("x" * 80) == "x" * 80
    assert errors.truncate("x" * 81) == "x" * 79 + "…"
    assert errors.truncate("x" * 60_000, 10) == "x" * 9 + "…"
