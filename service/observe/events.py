"""What the HTTP layer tells observers."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(slots=True)
class RequestEnded:
    """A request has been answered, or its client has gone.

    Attributes:
        id: of the request.
        method: of HTTP.
        path: of the request.
        route: pattern of the route. Clients choose paths, so a path must not become the value of a label.
        facts: for its line in the log.
        status: of the answer; 0 without one.
        seconds: that it took.
        time: when it ended, in seconds since the epoch.
    """

    id: str
    method: str
    path: str
    route: str
    facts: Mapping[str, object]
    status: int
    seconds: float
    time: float
