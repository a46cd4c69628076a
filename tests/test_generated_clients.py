"""Clients that others' tools generate from the OpenAPI document work, and get typed errors."""

import base64
import importlib
import io
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from http import HTTPStatus
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from service.tasks.images import FORMATS
from tests.pictures import encode
from tests.server import ROOT, Server
from tests.service.drift.drifting import written_histograms
from tests.tiny import LABELS, solid, write_model
from tests.tiny_autoencoder import write_autoencoder
from tests.tiny_detector import scene, write_detector
from tests.tiny_tabular import write_tabular
from tests.tiny_text import write_topics

TYPESCRIPT = ROOT / "tests" / "typescript"
CONFIG = "post_hooks: [ruff format .]\npackage_name_override: generated\n"
POLICY = "load = 2\ndefault = 1\nprevious = 2\naliases = { stable = 1, candidate = 2 }\n"
RED = encode(solid("red"))
BASE64 = base64.b64encode(RED).decode()
ROW = {"mean radius": 1.0, "area": 2.0}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The real server with a tiny model for every operation, and two versions of one that disagree."""
    models = tmp_path_factory.mktemp("models")
    write_model(models, histograms=written_histograms())
    write_model(models, version="2", labels=LABELS[::-1])
    (models / "classifier" / "serving.toml").write_text(POLICY)
    for write in (write_detector, write_autoencoder, write_topics, write_tabular):
        write(models)
    running = Server(models=models)
    yield running
    assert running.stop() == 0, "".join(running.lines)


@pytest.fixture(scope="module")
def document(server: Server) -> dict[str, Any]:
    with server.client() as client:
        return client.get("/openapi.json").json()


@pytest.fixture(scope="module")
def generated(document: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleType]:
    """The package that openapi-python-client makes."""
    folder = tmp_path_factory.mktemp("python")
    (folder / "openapi.json").write_text(json.dumps(document))
    (folder / "config.yaml").write_text(CONFIG)
    command = ("generate", "--meta", "none", "--path", "openapi.json", "--config", "config.yaml")
    made = subprocess.run(
        [sys.executable, "-m", "openapi_python_client", *command, "--output-path", "generated"],
        cwd=folder, capture_output=True, text=True,
        env={**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"},
    )  # fmt: skip
    assert made.returncode == 0, made.stdout + made.stderr
    # Files are sent as application/octet-stream instead.
    warnings = {line for line in made.stderr.splitlines() if line.startswith(("Cannot", "Unable", "Unsupported"))}
    assert warnings == {
        f"Unsupported content type {media_type}" for media_type in ("image/*", "text/plain", "text/csv")
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        yield importlib.import_module("generated")
        for name in [name for name in sys.modules if name.partition(".")[0] == "generated"]:
            del sys.modules[name]


class Caller:
    """Calls operations of the generated client by their names.

    Attributes:
        called: the names of operations that have answered 200.
    """

    def __init__(self, package: ModuleType, document: dict[str, Any], url: str) -> None:
        self._tags = {
            operation["operationId"]: operation["tags"][0].replace(" ", "_")
            for item in document["paths"].values()
            for operation in item.values()
        }
        self.client = package.Client(base_url=url)
        self.models: Any = importlib.import_module("generated.models")
        self.File = importlib.import_module("generated.types").File
        self.called: set[str] = set()

    def __call__(self, name: str, /, status: int = 200, **arguments: Any) -> Any:
        """The response, whose `parsed` is an object of a generated class."""
        module = importlib.import_module(f"generated.api.{self._tags[name]}.{name}")
        response = module.sync_detailed(client=self.client, **arguments)
        assert response.status_code == HTTPStatus(status), response.content
        if status == 200:
            self.called.add(name)
        return response

    def file(self, data: bytes, name: str | None = None) -> Any:
        return self.File(payload=io.BytesIO(data), file_name=name)


@pytest.fixture
def call(generated: ModuleType, document: dict[str, Any], server: Server) -> Iterator[Caller]:
    caller = Caller(generated, document, server.url)
    with caller.client:
        yield caller


def call_images(call: Caller) -> None:
    images = call.models.ImagesRequest(images=[BASE64, BASE64])
    answer = call("predict", body=images, top_k=2, coverage=0.9).parsed
    assert isinstance(answer, call.models.PredictAnswer)
    assert [len(result.labels) for result in answer.results] == [2, 2]
    assert answer.results[0].label_set[0] == answer.results[0].labels[0].label == "red"
    assert call("predict", body=call.file(RED), version="1").parsed.results[0].labels[0].label == "red"
    form = call.models.ImagesForm(files=[call.file(RED, "red.png"), call.file(encode(solid("blue")), "blue.png")])
    answer = call("predict", body=form, model="classifier/1").parsed
    assert [(result.name, result.labels[0].label) for result in answer.results] == [
        ("red.png", "red"), ("blue.png", "blue"),
    ]  # fmt: skip
    found = call("detect", body=call.file(encode(scene())), classes="red,green").parsed
    assert isinstance(found, call.models.DetectAnswer)
    assert {box.label for box in found.results[0].boxes} <= {"red", "green"}
    restored = call("reconstruct", body=call.file(RED)).parsed
    assert base64.b64decode(restored.results[0].png).startswith(b"\x89PNG")
    latents = call("encode", body=call.file(RED), invert=call.models.EncodeInvert.NEVER).parsed.results[0].latents
    decoded = call("decode", body=call.models.DecodeRequest(latents=[latents])).parsed
    assert base64.b64decode(decoded.results[0].png).startswith(b"\x89PNG")
    sheet = call("generate", count=4, label="dark", seed=7)
    assert sheet.parsed.payload.read().startswith(b"\x89PNG")
    assert sheet.headers["x-seed"] == "7"
    made = call("generate", count=2, format_=call.models.GenerateFormat.JSON)
    assert len(json.loads(made.content)["images"]) == 2


def call_texts_and_rows(call: Caller) -> None:
    text = call("classify_text", body=call.models.ClassifyTextRequest(text="a cat")).parsed
    texts = call("classify_text", body=call.models.ClassifyTextRequest(texts=["a cat", "oak"]), explain=True).parsed
    plain = call("classify_text", body=call.file(b"a cat")).parsed
    assert text == plain
    assert [result.labels[0].label for result in texts.results] == ["animals", "plants"]
    assert texts.results[0].words[1].word == "cat"
    row = call.models.PredictTabularRequestRowsItem.from_dict(ROW)
    json_ = call("predict_tabular", body=call.models.PredictTabularRequest(rows=[row])).parsed
    csv = call("predict_tabular", body=call.file(b"mean radius,area\n1.0,2.0\n")).parsed
    assert isinstance(csv, call.models.TabularAnswer)
    assert json_ == csv


def call_models(call: Caller) -> None:
    listed = call("list_models").parsed
    assert {model.name for model in listed.models} > {"classifier", "detector"}
    model = call("get_model", name="classifier").parsed
    assert isinstance(model.manifest, call.models.ClassifierManifest)
    assert model == call("get_model_version", name="classifier", version="1").parsed
    version = {"name": "classifier", "version": "1"}
    assert len(call("list_samples", **version).parsed.media_types) > 0
    assert call("get_sample", **version, index=0).content.startswith(b"\x89PNG")
    assert call("get_model_card", **version).parsed.startswith("<h1>")
    assert call("get_report_file", **version, file="README.md").content.startswith(b"#")
    assert call("get_liveness").parsed.status == "live"
    assert call("get_readiness").parsed.status == "ready"
    assert "quartet_requests_total" in call("get_metrics").parsed
    assert call("get_status").parsed.step == 10


def call_policy(call: Caller) -> None:
    models, name = call.models, {"name": "classifier"}
    assert call("get_drift", **name).parsed.needed == 1000
    assert call("get_policy", **name).parsed.aliases["stable"] == "1"
    call("start_canary", **name, body=models.NewCanary(version="2", share=0.05))
    assert call("get_canary", **name).parsed.share == 0.05
    assert call("end_canary", **name).parsed.canary is None
    call("start_shadow", **name, body=models.NewShadow(version="2"))
    call("predict", body=call.file(RED))
    example = wait_for(lambda: call("get_shadow", **name).parsed.examples)[0]
    assert call("get_shadow_example", **name, id=example.id).content == RED
    assert call("end_shadow", **name).parsed.shadow is None
    which = models.Which(version="2")
    assert call("set_alias", **name, alias="next", body=which).parsed.aliases["next"] == "2"
    for alias in ("next", "candidate"):
        call("remove_alias", **name, alias=alias)
    assert call("pin_version", **name, body=models.Pin(version="1")).parsed.default == "1"
    assert call("promote_version", **name, body=models.Promote(version="2")).parsed.default == "2"
    assert call("roll_back", **name).parsed.default == "1"
    call("unload_version", **name, body=which)
    call("load_version", **name, body=which)
    assert call("get_audit_log", **name).parsed.entries[0].action == "load 2"


def wait_for(found: Callable[[], Any]) -> Any:
    end = time.monotonic() + 30
    while not (value := found()):
        assert time.monotonic() < end
        time.sleep(0.05)
    return value


def call_feedback(call: Caller):
    entry = call.models.FeedbackEntry(request="nobody-s", truth="red")
    answer = call("post_feedback", body=call.models.NewFeedback(feedback=[entry])).parsed
    assert [each.state for each in answer.results] == ["unknown"]
    assert call("get_quality", name="classifier").parsed.versions == []


def test_every_operation_can_be_called(call: Caller, document: dict[str, Any]):
    call_images(call)
    call_texts_and_rows(call)
    call_models(call)
    call_policy(call)
    call_feedback(call)
    assert call.called == {
        operation["operationId"] for item in document["paths"].values() for operation in item.values()
    }


def test_errors_are_typed(call: Caller):
    problem = call("predict", 422, body=call.file(RED), top_k=0, coverage=3.0).parsed
    assert isinstance(problem, call.models.Problem)
    assert (problem.code, problem.status) == ("invalid-request", 422)
    assert [error.parameter for error in problem.errors] == ["top_k", "coverage"]
    problem = call("predict", 422, body=call.file(b"no image")).parsed
    assert (problem.code, problem.index) == ("undecodable-image", 0)
    row = call.models.PredictTabularRequestRowsItem.from_dict(ROW | {"area": "wide"})
    problem = call("predict_tabular", 422, body=call.models.PredictTabularRequest(rows=[row])).parsed
    assert problem.errors[0].pointer == "#/rows/0/area"
    problem = call("predict", 404, body=call.file(RED), model="none").parsed
    assert (problem.code, problem.type_) == ("unknown-model", "/problems/unknown-model")
    problem = call("unload_version", 409, name="classifier", body=call.models.Which(version="1")).parsed
    assert problem.code == "conflict"
    assert isinstance(call("get_shadow", 404, name="classifier").parsed, call.models.Problem)


def test_the_document_names_the_formats_of_images(document: dict[str, Any]):
    image = document["paths"]["/v1/predict"]["post"]["requestBody"]["content"]["image/*"]["schema"]
    assert all(name in image["description"] for name in FORMATS)


def run(*command: object, folder: Path) -> str:
    done = subprocess.run([str(part) for part in command], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def packages() -> Path:
    """Where the packages of `package.json` are; they are installed once."""
    if not (shutil.which("node") and shutil.which("npm")):
        pytest.skip("Node.js and npm are not installed")
    folder, wanted = TYPESCRIPT / "node_modules", (TYPESCRIPT / "package.json").read_text()
    installed = folder / "installed.json"
    if not installed.is_file() or installed.read_text() != wanted:
        run("npm", "install", "--no-package-lock", "--ignore-scripts", "--no-audit", "--no-fund", folder=TYPESCRIPT)
        installed.write_text(wanted)
    return folder


def test_types_for_typescript(packages: Path, document: dict[str, Any], server: Server, tmp_path: Path):
    (tmp_path / "node_modules").symlink_to(packages)
    (tmp_path / "openapi.json").write_text(json.dumps(document))
    (tmp_path / "red.png").write_bytes(RED)
    for name in ("package.json", "program.ts"):
        shutil.copy(TYPESCRIPT / name, tmp_path)
    run(
        "node", packages / "openapi-typescript" / "bin" / "cli.js", "openapi.json", "-o", "schema.d.ts", folder=tmp_path
    )
    options = ("--strict", "--module", "nodenext", "--target", "es2022", "--skipLibCheck")
    run("node", packages / "typescript" / "bin" / "tsc", *options, "program.ts", "schema.d.ts", folder=tmp_path)
    said = run("node", "program.js", server.url, "red.png", folder=tmp_path)
    assert said.splitlines() == ["red", "422 invalid-request top_k"]
