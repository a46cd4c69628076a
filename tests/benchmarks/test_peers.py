"""The comparison with other servers, without any of them."""

import base64
import json
import subprocess
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from benchmarks.load import Load
from benchmarks.options import newest
from benchmarks.peers import __main__ as peers
from benchmarks.peers import environments
from benchmarks.peers.candidates import PEERS, Graph, Running, bare, probabilities
from benchmarks.peers.classifier import Classifier, decode
from benchmarks.servers import free_port, run
from tests.server import ROOT

CAT = (ROOT / "examples" / "cat.jpg").read_bytes()
FOLDER = newest(ROOT / "models", "classifier")
TRUTH = {"cat": 0.9, "dog": 0.07, "bird": 0.03}


def answering(answer: dict[str, float]) -> Running:
    return Running(lambda image: answer, lambda count, seconds: Load(1.0, 1.0, 1.0))


def test_equal_answers_pass():
    peers.check("peer", answering({"cat": 0.8995, "dog": 0.0705}), [CAT], [TRUTH], 1e-3)


@pytest.mark.parametrize("answer", [{"cat": 0.8}, {"cat": 0.9, "frog": 0.05}, {"dog": 0.07}, {}])
def test_other_answers_are_an_error(answer):
    with pytest.raises(ValueError, match=r"peer answers image 0 with"):
        peers.check("peer", answering(answer), [CAT], [TRUTH], 1e-3)


def test_the_peers_share_a_classifier_that_answers_as_the_bare_session_does():
    with bare(Graph("", ROOT / "models", FOLDER / "model.onnx"), [CAT]) as session:
        expected = session.classify(CAT)
    one, two = Classifier(FOLDER / "model.onnx").classify([decode(CAT), decode(CAT)])
    assert one["labels"][0]["label"] == "cat"
    for answer in (one, {"results": [two]}, [two]):
        assert len(probabilities(answer)) == 5
        peers.check("peer", answering(probabilities(answer)), [CAT], [expected], 1e-5)


def test_ratios_are_those_of_the_same_round():
    reached = {
        "quartet": {8: [Load(100, 1, 2), Load(50, 3, 4), Load(200, 5, 6)]},
        "peer": {8: [Load(50, 2, 3), Load(50, 2, 5), Load(50, 2, 4)]},
    }
    ours, theirs = peers.figures_of(reached)
    assert (ours["rate"], ours["ratio"]) == (100, 1)
    assert theirs["ratio_in_rounds"] == [0.5, 1, 0.25]
    assert (theirs["ratio"], theirs["rate"], theirs["median_ms"], theirs["p99_ms"]) == (0.5, 50, 2, 4)


def test_the_command_measures_one_candidate_at_a_time_in_alternating_order(tmp_path, monkeypatch):
    events = []

    def candidate(name: str):
        @contextmanager
        def start(graph, images):
            events.append(f"start {name}")
            with bare(graph, images) as session:
                yield Running(session.classify, lambda count, seconds: Load(10.0 * count, 1.0, 2.0))
            events.append(f"stop {name}")

        return start

    monkeypatch.setattr(peers, "quartet", lambda checkout=None: candidate(checkout.name if checkout else "here"))
    monkeypatch.setattr(peers, "OTHERS", {"mosec": candidate("mosec"), "by hand": candidate("by hand")})
    monkeypatch.chdir(ROOT)
    result = tmp_path / "peers.json"
    options = ["--against", "mosec", "--also", "../old", "--graphs", "tiny", "--concurrency", "1", "8", "--rounds", "2"]
    monkeypatch.setattr("sys.argv", ["peers", *options, "--json", str(result)])
    peers.main()
    order = ["here", "old", "mosec", "mosec", "old", "here"]
    assert events == [f"{what} {name}" for name in order for what in ("start", "stop")]
    content = json.loads(result.read_text())
    assert [(row["concurrency"], row["server"], row["rate"]) for row in content["figures"]["tiny"]] == [
        (count, server, 10 * count) for count in (1, 8) for server in ("quartet", "quartet in old", "mosec")
    ]
    assert content["lines"] == [f"In the peers' environments: {environments.versions(['onnxruntime', 'mosec'])}"]


@pytest.mark.parametrize("peer", PEERS.values(), ids=lambda peer: peer.name)
def test_what_a_peer_needs_is_pinned_and_its_request_has_the_image(peer):
    assert environments.versions(peer.packages).startswith(f"{peer.name} ")
    assert (ROOT / "benchmarks" / "peers" / f"{peer.name}_app.py").is_file()
    body = peer.body(CAT)
    if peer.media_type == "application/json":
        (image,) = json.loads(body).values()
        body = base64.b64decode(image if isinstance(image, str) else image[0])
    assert body == CAT


def test_an_environment_is_made_once_and_again_when_its_contents_change(tmp_path, monkeypatch):
    commands = []

    def made(command, check):
        commands.append(list(map(str, command)))
        if "venv" in command:
            (command[-1] / "bin").mkdir(parents=True)

    monkeypatch.setattr(environments, "FOLDER", tmp_path)
    monkeypatch.setattr(subprocess, "run", made)
    python = environments.python_of("mosec", ["mosec"])
    assert python == environments.python_of("mosec", ["mosec"])
    assert len(commands) == 2
    assert commands[1][:4] == [str(python), "-m", "pip", "install"]
    environments.python_of("mosec", ["mosec", "msgspec"])
    assert len(commands) == 4
    assert commands[3][-1] == "msgspec"


def test_processes_that_a_server_leaves_behind_are_stopped(tmp_path: Path):
    script = tmp_path / "server.py"
    script.write_text(
        "import http.server, pathlib, subprocess, sys\n"
        "pathlib.Path('child').write_text(str(subprocess.Popen(['sleep', '600']).pid))\n"
        "http.server.ThreadingHTTPServer(('127.0.0.1', int(sys.argv[1])),\n"
        "    http.server.SimpleHTTPRequestHandler).serve_forever()\n"
    )
    port = free_port()
    with run(["python3", str(script), str(port)], {}, port, "/child", tmp_path):
        child = psutil.Process(int((tmp_path / "child").read_text()))
        assert child.is_running()
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE
