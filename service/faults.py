"""Collects what is wrong with a request, so that a client can correct all of it at once."""

from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote

from service.errors import Fault, InvalidRequest, truncate

# A request with this many is refused without looking for more.
_MOST = 20


class Faults:
    """What is wrong with a request, in the order found."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []
        self._index: int | None = None

    def add(
        self, detail: str, *, parameter: str | None = None, pointer: str | None = None, index: int | None = None
    ) -> None:
        """Notes a fault; the arguments are those of `InvalidRequest`.

        Raises:
            InvalidRequest: there are too many to go on.
        """
        if not self._faults:
            self._index = index
        self._faults.append(Fault(detail, parameter, pointer))
        if len(self._faults) == _MOST:
            raise self.error()

    def check(self) -> None:
        """Raises the error if there is a fault."""
        if self._faults:
            raise self.error()

    def error(self) -> InvalidRequest:
        """The error of all faults, of which there is one at least."""
        detail, more = self._faults[0].detail, len(self._faults) - 1
        if more:
            count = f"{more} or more other errors" if more == _MOST - 1 else f"{more} other error{'s' * (more > 1)}"
            detail = f"{detail.removesuffix('.')} (and {count})."
        return InvalidRequest(detail, faults=self._faults, index=self._index)


def pointer(*path: str | int) -> str:
    """A JSON pointer as a URI fragment (RFC 6901) to a value of a document, from the names and indices on the way."""
    parts = (truncate(str(part)).replace("~", "~0").replace("/", "~1") for part in path)
    return "#" + "".join(f"/{quote(part, safe='~')}" for part in parts)


def add_parameters(faults: Faults, errors: Iterable[Mapping[str, Any]], known: Iterable[str] = ()) -> None:
    """Adds the errors that pydantic found in parameters, of which the known ones are named to who misspells one."""
    for error in errors:
        name = truncate(".".join(map(str, error["loc"])))
        if error["type"] == "extra_forbidden":
            detail = f"There is no parameter {name!r}; there are {', '.join(known)}."
        else:
            detail = f"{name}={truncate(str(error['input']))}: {error['msg']}."
        faults.add(detail, parameter=name)


def add_fields(faults: Faults, errors: Iterable[Mapping[str, Any]], known: Iterable[str] = ()) -> None:
    """As `add_parameters`, of the fields of a JSON document."""
    for error in errors:
        name = truncate(".".join(map(str, error["loc"])))
        if error["type"] == "extra_forbidden":
            detail = f"There is no field {name!r}" + (f"; there are {', '.join(known)}." if known else ".")
        else:
            detail = f"{name or 'The body is not right'}: {error['msg']}."
        faults.add(detail, pointer=pointer(*error["loc"]))
