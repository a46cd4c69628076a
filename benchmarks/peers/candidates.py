"""What is compared: this project, the bare session, the hand-written app and the peers, behind one interface."""

import base64
import json
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.bare import bare_load
from benchmarks.load import Load, measure
from benchmarks.peers.classifier import decode
from benchmarks.peers.environments import FOLDER, python_of
from benchmarks.results import ROOT
from benchmarks.servers import free_port, handwritten, run, service
from service.inference.session import Session


@dataclass(frozen=True, slots=True)
class Graph:
    """A graph that all candidates serve.

    Attributes:
        title: for the table.
        models: the folder of models that this project serves.
        file: the graph itself, in the folder of its version.
        variant: its name in the manifest.
    """

    title: str
    models: Path
    file: Path
    variant: str = "reference"


@dataclass(frozen=True, slots=True)
class Running:
    """A candidate that is ready.

    Attributes:
        classify: gives the probabilities of the most likely labels of a JPEG.
        load: measures a number of concurrent requests for a number of seconds.
    """

    classify: Callable[[bytes], dict[str, float]]
    load: Callable[[int, float], Load]


# Starts a candidate with a graph, for load with some JPEGs.
Candidate = Callable[[Graph, Sequence[bytes]], AbstractContextManager[Running]]


@dataclass(frozen=True, slots=True)
class Peer:
    """A server with an environment of its own; its app is the module `<name>_app`.

    Attributes:
        name: of the peer.
        packages: that it needs.
        command: what follows the interpreter; `{port}` stands for the port.
        path: of the route.
        ready: a path that answers once the server is ready.
        media_type: of a request.
        body: makes a request's body of a JPEG.
        environment: further environment variables.
    """

    name: str
    packages: tuple[str, ...]
    command: tuple[str, ...]
    path: str
    ready: str
    media_type: str = "image/jpeg"
    body: Callable[[bytes], bytes] = bytes
    environment: tuple[tuple[str, str], ...] = ()

    @contextmanager
    def __call__(self, graph: Graph, images: Sequence[bytes]) -> Iterator[Running]:
        """Starts the peer."""
        port = free_port()
        python = python_of(self.name, self.packages)
        command = [str(python), *(word.format(port=port) for word in self.command)]
        environment = {"PEER_GRAPH": str(graph.file.absolute()), **dict(self.environment)}
        with run(command, environment, port, self.ready, ROOT):
            yield _over_http(port, self.path, images, self.media_type, self.body)


PEERS = {
    peer.name: peer
    for peer in (
        Peer(
            name="mosec",
            packages=("mosec",),
            command=("-m", "benchmarks.peers.mosec_app", "--port={port}"),
            path="/inference",
            ready="/metrics",
        ),
        Peer(
            name="litserve",
            packages=("litserve",),
            command=("-m", "benchmarks.peers.litserve_app", "{port}"),
            path="/predict",
            ready="/health",
            media_type="application/json",
            body=lambda jpeg: as_json({"image": encoded(jpeg)}),
        ),
        Peer(
            name="bentoml",
            packages=("bentoml",),
            command=("-m", "bentoml", "serve", "benchmarks.peers.bentoml_app:Service", "--port={port}"),
            path="/classify",
            ready="/readyz",
            media_type="application/json",
            body=lambda jpeg: as_json({"images": [encoded(jpeg)]}),
            # Without these it reports its use over the network and writes into the home folder.
            environment=(("BENTOML_DO_NOT_TRACK", "True"), ("BENTOML_HOME", str(FOLDER / "bentoml_home"))),
        ),
    )
}


def quartet(checkout: Path | None = None) -> Candidate:
    """This project's service, of this or of another checkout."""

    @contextmanager
    def start(graph: Graph, images: Sequence[bytes]) -> Iterator[Running]:
        with service(graph.models, {"variant": graph.variant}, checkout) as server:
            yield _over_http(server.port, "/v1/predict", images)

    return start


@contextmanager
def by_hand(graph: Graph, images: Sequence[bytes]) -> Iterator[Running]:
    """The hand-written app, with this project's environment."""
    with handwritten(graph.file.parent, graph.file.name) as server:
        yield _over_http(server.port, "/v1/predict", images)


@contextmanager
def bare(graph: Graph, images: Sequence[bytes]) -> Iterator[Running]:
    """The session alone: one batch of decoded images after another, each of as many images as there are clients."""
    session = Session(graph.file, "cpu")
    labels = json.loads((graph.file.parent / "manifest.json").read_text())["labels"]

    def classify(image: bytes) -> dict[str, float]:
        probabilities: npt.NDArray[np.float32] = session.run({session.inputs[0]: decode(image)[None]})[0][0]
        return dict(zip(labels, map(float, probabilities), strict=True))

    pixels = np.stack([decode(image) for image in images])
    yield Running(classify, lambda count, seconds: bare_load(session, pixels, count, seconds))


def _over_http(
    port: int,
    path: str,
    images: Sequence[bytes],
    media_type: str = "image/jpeg",
    body: Callable[[bytes], bytes] = bytes,
) -> Running:
    bodies = [body(image) for image in images]

    def classify(image: bytes) -> dict[str, float]:
        request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", body(image), {"Content-Type": media_type})
        with urllib.request.urlopen(request, timeout=30) as response:
            return probabilities(json.load(response))

    return Running(classify, lambda count, seconds: measure(port, path, bodies, count, seconds, media_type))


def probabilities(answer: Any) -> dict[str, float]:
    """The probabilities by label in the answer of any candidate to a request with one image."""
    if isinstance(answer, dict):
        answer = answer.get("results", [answer])
    return {label["label"]: label["probability"] for label in answer[0]["labels"]}


def encoded(jpeg: bytes) -> str:
    """A JPEG in base64."""
    return base64.b64encode(jpeg).decode()


def as_json(value: Any) -> bytes:
    """A body in JSON."""
    return json.dumps(value).encode()
