"""quartet models VERB against the real server, whose versions are tiny."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from quartet.command_line import main
from service.policy.file import edit_policy
from tests.pictures import encode
from tests.server import Server
from tests.tiny import solid, write_model

Say = Callable[..., list[str]]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("versions")
    for version in ("1", "2", "3"):
        write_model(folder, version=version)
    (folder / "classifier" / "serving.toml").write_text(
        '# ours\ndefault = "stable"\n[aliases]\nstable = "1"\ncandidate = "2"\n'
    )
    return folder


@pytest.fixture(scope="module")
def running(models: Path) -> Iterator[Server]:
    server = Server(models=models)
    yield server
    assert server.stop() == 0, "".join(server.lines)


@pytest.fixture
def say(running: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Say:
    """Runs a verb on the classifier, and gives the lines that it prints."""
    monkeypatch.setenv("QUARTET_URL", running.url)

    def run(verb: str, *arguments: str, code: int = 0) -> list[str]:
        assert main(["models", verb, "classifier", *arguments]) == code
        printed = capsys.readouterr()
        return (printed.err if code else printed.out).splitlines()

    return run


def answering(server: Server) -> str:
    with server.client() as client:
        response: httpx.Response = client.post("/v1/predict", content=encode(solid("red")))
    version: str = response.json()["version"]
    return version


def test_versions_are_promoted_and_rolled_back(running: Server, say: Say, models: Path):
    table = [line.split() for line in say("status")]
    assert table[0] == ["version", "status", "role", "aliases", "share"]
    assert [line[:2] for line in table[1:]] == [["3", "loaded"], ["2", "loaded"], ["1", "serving"]]
    assert say("promote", "candidate")[-1] == (
        "classifier: promote candidate (default 1 -> 2, previous none -> 1, alias stable -> 2)"
    )
    assert answering(running) == "2"
    assert say("rollback")[-1].startswith("classifier: rollback (default 2 -> 1")
    assert answering(running) == "1"
    assert say("pin", "3")[-1].startswith("classifier: pin 3 (default 1 -> 3")
    assert answering(running) == "3"
    say("promote", "1")
    assert (models / "classifier" / "serving.toml").read_text().startswith("# ours\n")
    assert "promote 1" in say("audit")[1]


def test_trials_begin_and_end(running: Server, say: Say):
    assert say("canary", "2", "--share", "5")[-1] == "classifier: canary 2 (canary 2 at 5 %)"
    state = json.loads(say("status", "--json")[0])
    assert {each["version"]: each["share"] for each in state["versions"]}["2"] == pytest.approx(0.05)
    steps = "5 % for 10 min, 25 % for 30 min, 100 %"
    say("canary", "2", "--steps", steps, "--sticky", "X-User")
    assert say("canary", "--clear")[-1] == "classifier: end the canary (canary 2 ended)"
    assert say("shadow", "candidate")[-1] == "classifier: shadow candidate (shadow 2 at 100 %)"
    line = say("promote", "--if-agreement", "0.98", "--after", "50", "--no-wait")[-2]
    assert line.startswith("classifier: promote candidate at an agreement of 0.98 after 50 (")
    assert line.endswith("(shadow 2 at 100 % until 50 inputs are compared)")
    assert say("shadow", "--clear")[-1] == "classifier: end the shadow (shadow 2 ended)"


def test_versions_and_names_come_and_go(say: Say):
    assert say("alias", "old", "3")[-1] == "classifier: alias old for 3 (alias old -> 3)"
    assert say("alias", "old", "--clear")[-1] == "classifier: remove the alias old (alias old removed)"
    assert say("unload", "3")[-1].startswith("classifier: unload 3")
    assert say("load", "3")[-1].startswith("classifier: load 3")
    assert say("load", "3")[-1] == "classifier: nothing changed"


def test_what_is_not_possible_is_one_line(say: Say):
    (line,) = say("unload", "1", code=1)
    assert line.startswith("error: Version 1 ")
    (line,) = say("promote", "nothing", code=1)
    assert line.startswith("error: 'nothing' is neither a version nor an alias")
    (line,) = say("promote", code=1)
    assert "name the version" in line


def test_a_version_that_was_published_since_is_tried_at_once(running: Server, say: Say, models: Path):
    write_model(models, version="4")
    edit_policy(
        models / "classifier" / "serving.toml",
        lambda policy: policy.model_copy(update={"aliases": {**policy.aliases, "candidate": "4"}}),
    )
    assert say("shadow", "candidate")[-1].startswith("classifier: shadow candidate (")
    state = json.loads(say("status", "--json")[0])
    assert (state["shadow"]["version"], state["versions"][0]["status"]) == ("4", "loaded")
    assert say("promote")[-1].startswith("classifier: promote candidate (default")
    assert answering(running) == "4"
    say("rollback")
    assert answering(running) != "4"
