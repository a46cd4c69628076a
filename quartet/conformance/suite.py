"""The checks, and what a run of them finds."""

import gzip
import json
import traceback
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import httpx

from quartet.conformance.tensors import Tensor, close, flatten, make_inputs, parse_binary

# Some servers refuse longer JSON.
_MOST_VALUES = 500_000
_SHOWN = 1_000
Verdict = Literal["passed", "failed", "not offered"]
_Run = Callable[["Session"], None]


class Failed(Exception):
    """A server does not do what the protocol says."""


class NotOffered(Exception):
    """A server does not offer an optional part of the protocol."""


@dataclass(frozen=True, slots=True)
class Check:
    """A part of the protocol.

    Attributes:
        name: in a few words.
        required: whether every server must offer it.
        run: raises Failed or NotOffered.
    """

    name: str
    required: bool
    run: _Run


@dataclass(slots=True)
class Result:
    """What a check found.

    Attributes:
        why: it was not passed; empty if it was.
        exchanges: requests and responses, the last one last.
    """

    check: Check
    verdict: Verdict
    why: str = ""
    exchanges: list[str] = field(default_factory=list)


class Suite(list[Check]):
    """Checks in the order in which they run; `prefix` begins the name of each."""

    def __init__(self, prefix: str = "") -> None:
        super().__init__()
        self._prefix = prefix

    def check(self, name: str, *, required: bool = True) -> Callable[[_Run], _Run]:
        """Adds a function to the checks."""

        def add(run: _Run) -> _Run:
            self.append(Check(f"{self._prefix}{name}", required, run))
            return run

        return add


class Session:
    """A server, a model, and inputs for it.

    Args:
        client: whose base URL is the server's.
        model: name of the model.
        version: of it; empty for the default.
        inputs: for the model; made from its metadata if None.
        calls: over gRPC, a `quartet.conformance.rpc.Calls`; None if only REST is checked.
    """

    def __init__(
        self,
        client: httpx.Client,
        model: str,
        version: str = "",
        inputs: list[Tensor] | None = None,
        calls: Any = None,
    ) -> None:
        self._client, self.model, self.version, self.calls = client, model, version, calls
        # Shared with the calls, so that all requests of a check are in their order.
        self.exchanges: list[str] = [] if calls is None else calls.exchanges
        self._inputs = inputs
        self._metadata: dict[str, Any] | None = None
        self._reference: dict[str, Tensor] | None = None

    @property
    def metadata(self) -> dict[str, Any]:
        """Of the model."""
        if self._metadata is None:
            self._metadata = self.json("GET", f"/v2/models/{self.model}")
        return self._metadata

    @property
    def inputs(self) -> list[Tensor]:
        """For the model: two items where the first axis is open, or one if they are large."""
        if self._inputs is None:
            self._inputs = make_inputs(self.metadata, batch=2)
            if sum(len(each.values) for each in self._inputs) > _MOST_VALUES:
                self._inputs = make_inputs(self.metadata, batch=1)
        return self._inputs

    @property
    def reference(self) -> dict[str, Tensor]:
        """The outputs for the inputs, sent as flat JSON."""
        if self._reference is None:
            self._reference = read_json(self.json("POST", self.path("infer"), json_body=self.body()))
        return self._reference

    def path(self, end: str, version: str | None = None) -> str:
        """A path below the model's."""
        version = self.version if version is None else version
        return f"/v2/models/{self.model}{f'/versions/{version}' if version else ''}{f'/{end}' if end else ''}"

    def body(self, **more: Any) -> dict[str, Any]:
        """An inference request with flat JSON."""
        return {"inputs": [each.to_json() for each in self.inputs], **more}

    def send(self, method: str, path: str, **options: Any) -> httpx.Response:
        """A response of any status."""
        request = self._client.build_request(method, path, **options)
        try:
            response = self._client.send(request)
        except httpx.HTTPError as error:
            self.exchanges.append(f"> {method} {path}\n< {error!r}")
            raise Failed(f"{method} {path}: {error!r}") from None
        self.exchanges.append(_describe(request, response))
        return response

    def json(self, method: str, path: str, json_body: Any = None, **options: Any) -> Any:
        """The document of a successful response."""
        if json_body is not None:
            options["content"] = json.dumps(json_body)
        response = self.send(method, path, **options)
        if response.status_code in (404, 405, 501) and method == "GET":
            raise NotOffered(f"{method} {path}: {response.status_code}")
        if response.status_code != 200:
            raise Failed(f"{method} {path}: {response.status_code}")
        try:
            return response.json()
        except ValueError:
            raise Failed(f"{method} {path}: the response is no JSON") from None

    def binary(self, document: dict[str, Any], *blobs: bytes, path: str = "", **headers: str) -> httpx.Response:
        """The response to a request with binary data."""
        head = json.dumps(document).encode()
        stated = {"Inference-Header-Content-Length": str(len(head)), "Content-Type": "application/octet-stream"}
        content = b"".join([head, *blobs])
        return self.send("POST", path or self.path("infer"), content=content, headers=stated | headers)

    def refused(self, what: str, response: httpx.Response, *statuses: int) -> None:
        """Raises Failed unless a response has one of the statuses, and a body `{"error": "…"}`."""
        if response.status_code not in statuses:
            expected = " or ".join(map(str, statuses))
            raise Failed(f"{what}: answered {response.status_code}, expected {expected}")
        try:
            message = response.json().get("error")
        except (ValueError, AttributeError):
            message = None
        if not isinstance(message, str) or not message:
            raise Failed(f'{what}: the body is not {{"error": "…"}}')


def need(condition: object, why: str) -> None:
    """Raises Failed unless a condition holds."""
    if not condition:
        raise Failed(why)


def run(session: Session, checks: Iterable[Check]) -> Iterator[Result]:
    """Runs checks, each of which may fail alone."""
    for check in checks:
        session.exchanges.clear()
        verdict: Verdict = "passed"
        why = ""
        try:
            check.run(session)
        except NotOffered as absent:
            verdict, why = ("failed" if check.required else "not offered"), str(absent)
        except Failed as error:
            verdict, why = "failed", str(error)
        except Exception:  # a response of another shape than the protocol's
            verdict, why = "failed", traceback.format_exc().strip().splitlines()[-1]
        yield Result(check, verdict, why, list(session.exchanges))


def read_json(document: Any) -> dict[str, Tensor]:
    """The outputs of a JSON response, by name."""
    outputs = {}
    for output in document["outputs"]:
        values = flatten(output["data"])
        outputs[output["name"]] = Tensor(output["name"], output["datatype"], tuple(output["shape"]), values)
    return outputs


def read_binary(response: httpx.Response) -> dict[str, Tensor]:
    """The outputs of a response with binary data, by name."""
    length = response.headers.get("inference-header-content-length")
    if length is None:
        raise Failed("the response has no header Inference-Header-Content-Length")
    start, outputs = int(length), {}
    for output in json.loads(response.content[:start])["outputs"]:
        size = output["parameters"]["binary_data_size"]
        data = response.content[start : start + size]
        if len(data) != size:
            raise Failed(f"the output {output['name']!r} is truncated")
        values = parse_binary(output["datatype"], data)
        outputs[output["name"]] = Tensor(output["name"], output["datatype"], tuple(output["shape"]), values)
        start += size
    if start != len(response.content):
        raise Failed(f"{len(response.content) - start} bytes of the response belong to no output")
    return outputs


def check_same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """Raises Failed unless outputs are those that were given before."""
    for name, tensor in found.items():
        if name not in expected:
            raise Failed(f"there is an output {name!r} that was not given before")
        if tensor.shape != expected[name].shape or not close(tensor.values, expected[name].values):
            raise Failed(f"the output {name!r} differs from that of the same request in flat JSON")


def compress(content: bytes, encoding: str) -> bytes:
    """A body in an encoding."""
    return gzip.compress(content) if encoding == "gzip" else zlib.compress(content)


def _describe(request: httpx.Request, response: httpx.Response) -> str:
    def shown(content: bytes) -> str:
        text = ascii(content[:_SHOWN].decode(errors="backslashreplace"))[1:-1]
        return text if len(content) <= _SHOWN else f"{text}… ({len(content)} bytes)"

    length = request.headers.get("inference-header-content-length")
    head = f"> {request.method} {request.url}" + (f"\n> Inference-Header-Content-Length: {length}" if length else "")
    body = f"\n> {shown(request.content)}" if request.content else ""
    return f"{head}{body}\n< {response.status_code}\n< {shown(response.content)}"
