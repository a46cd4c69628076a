"""The suite finds nothing wrong with the service, and everything with a server that does otherwise."""

import json
import threading
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest

from quartet.conformance import rest, rpc
from quartet.conformance.command_line import main
from quartet.conformance.suite import Session, run
from tests.server import Server

METADATA = {
    "name": "twice",
    "versions": ["1"],
    "platform": "none",
    "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}],
    "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 2]}],
}


class Careless(BaseHTTPRequestHandler):
    """Answers everything with 200, checks nothing, and forgets the id."""

    def do_GET(self) -> None:
        known = {"/v2": {"name": "careless", "version": "0"}, "/v2/models/twice": METADATA}
        self._answer(known.get(self.path, {}))

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        if self.path.endswith("index"):
            return self._answer([{"name": "twice"}])
        try:
            (tensor,) = json.loads(body)["inputs"]
            values = [2 * value for row in tensor["data"] for value in (row if isinstance(row, list) else [row])]
            output = {**METADATA["outputs"][0], "shape": tensor["shape"], "data": values}  # type: ignore[index]
            self._answer({"model_name": "twice", "outputs": [output]})
        except (ValueError, KeyError):
            self._answer({})

    def _answer(self, document: Any) -> None:
        content = json.dumps(document).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        """Nothing."""


@pytest.fixture
def careless() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Careless)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_the_service_conforms(everything: Server):
    with everything.client() as client, closing(rpc.Calls(f"127.0.0.1:{everything.grpc_port}", {})) as calls:
        for model in ("classifier", "detector", "topics", "tabular", "autoencoder", "decoder"):
            results = list(run(Session(client, model, calls=calls), [*rest.CHECKS, *rpc.CHECKS]))
            wrong = [(each.check.name, each.why) for each in results if each.verdict == "failed"]
            assert not wrong, model
            assert sum(each.verdict == "passed" for each in results) >= 25 + len(rpc.CHECKS)


def test_the_command_checks_grpc_too(everything: Server, capsys: pytest.CaptureFixture[str]):
    assert main([everything.url, "--model", "topics", "--grpc", f"127.0.0.1:{everything.grpc_port}"]) == 0
    assert "gRPC: inference, raw contents" in capsys.readouterr().out
    assert main([everything.url, "--model", "topics", "--grpc", "127.0.0.1:9", "--details"]) == 1
    assert "> ServerLive" in capsys.readouterr().out


def test_what_a_careless_server_does_wrong_is_named(careless: str):
    with httpx.Client(base_url=careless) as client:
        results = {each.check.name: each for each in run(Session(client, "twice"), rest.CHECKS)}
    assert results["inference, flat JSON"].verdict == "passed"
    assert "the id is None" in results["the id is repeated"].why
    assert results["binary inputs and outputs"].verdict == "not offered"
    malformed = results["malformed requests: 400, with an error"]
    assert malformed.verdict == "failed"
    assert "no JSON: answered 200, expected 400" in malformed.why
    assert "POST" in malformed.exchanges[-1]


def test_the_command_prints_a_table(careless: str, capsys: pytest.CaptureFixture[str]):
    assert main(["conformance", careless, "--details"]) == 1
    printed = capsys.readouterr().out
    assert "the id is repeated" in printed
    assert "> POST" in printed
    assert main(["conformance", careless, "--json"]) == 1
    assert {each["verdict"] for each in json.loads(capsys.readouterr().out)} == {"passed", "failed", "not offered"}


def test_a_server_that_is_not_there(capsys: pytest.CaptureFixture[str]):
    assert main(["conformance", "http://127.0.0.1:9"]) == 2
    assert "does not answer" in capsys.readouterr().err
