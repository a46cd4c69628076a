"""quartet models VERB: what is sent to a server, what is printed, and when it fails."""

import json
from collections.abc import Callable, Iterator

import pytest

from quartet.command_line import main
from quartet.remote import promotion
from quartet.remote.command_line import VERBS
from tests.quartet.remote.fake import Fake, serve

Say = Callable[..., tuple[int, str, str]]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Fake]:
    fake = Fake()
    monkeypatch.setattr(promotion, "_SECONDS", 0.0)
    monkeypatch.delenv("QUARTET_API_KEY", raising=False)
    with serve(fake):
        monkeypatch.setenv("QUARTET_URL", fake.url)
        yield fake


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Say:
    """Runs a verb on cats, and gives the exit code and what was printed."""

    def run(verb: str, *arguments: str) -> tuple[int, str, str]:
        code = main(["models", verb, "cats", *arguments])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run


def test_the_status_is_a_table_of_versions(server: Fake, say: Say):
    code, out, err = say("status")
    assert (code, err) == (0, "")
    assert [line.split() for line in out.splitlines()] == [
        ["version", "status", "role", "aliases", "share", "reason"],
        ["1", "serving", "default", "100", "%"],
        ["2", "loaded", "candidate"],
        ["0", "refused", "model.onnx:", "is", "missing"],
    ]
    assert json.loads(say("status", "--json")[1]) == server.state()


@pytest.mark.parametrize(
    ("arguments", "sent", "changed"),
    [
        (["load", "3"], ("POST", "load", {"version": "3"}), "3 loaded"),
        (["unload", "2"], ("POST", "unload", {"version": "2"}), "2 unloaded"),
        (["pin", "2"], ("POST", "pin", {"version": "2"}), "default 1 -> 2, previous none -> 1"),
        (["pin"], ("POST", "pin", {}), "default 1 -> 2, previous none -> 1"),
        (["promote"], ("POST", "promote", {}), "default 1 -> 2, previous none -> 1"),
        (["promote", "candidate"], ("POST", "promote", {"version": "candidate"}), "default 1 -> 2, previous none -> 1"),
        (["promote", "2"], ("POST", "promote", {"version": "2"}), "default 1 -> 2, previous none -> 1"),
        (["promote", "1"], ("POST", "promote", {"version": "1"}), "previous none -> 1"),
        (["canary", "2", "--share", "5"], ("PUT", "canary", {"version": "2", "share": 0.05}), "canary 2 at 5 %"),
        (
            ["canary", "2", "--steps", "5 % for 10 min, 100 %", "--sticky", "X-User"],
            (
                "PUT",
                "canary",
                {"version": "2", "steps": [{"share": 0.05, "minutes": 10.0}, {"share": 1.0}], "sticky": "X-User"},
            ),
            "canary 2 at 5 %",
        ),
        (["canary", "--clear"], ("DELETE", "canary", None), "nothing changed"),
        (["shadow", "candidate"], ("PUT", "shadow", {"version": "candidate"}), "shadow candidate at 100 %"),
        (["shadow", "2", "--share", "0.5 %"], ("PUT", "shadow", {"version": "2", "share": 0.005}), "shadow 2 at 0.5 %"),
        (["alias", "stable", "1"], ("PUT", "aliases/stable", {"version": "1"}), "alias stable -> 1"),
        (["alias", "a/b", "1"], ("PUT", "aliases/a%2Fb", {"version": "1"}), "alias a/b -> 1"),
        (["alias", "candidate", "--clear"], ("DELETE", "aliases/candidate", None), "alias candidate removed"),
    ],
)
def test_a_change_is_sent_once_and_stated_in_a_line(server: Fake, say: Say, arguments, sent, changed):
    verb, *others = arguments
    code, out, _ = say(verb, *others)
    assert code == 0
    assert out.splitlines()[-1] == f"cats: {changed}"
    method, path, body = sent
    assert [request for request in server.requests if request[0] != "GET"] == [
        (method, f"/v1/models/cats/{path}", body)
    ]


def test_a_rollback_and_the_end_of_trials(server: Fake, say: Say):
    say("promote")
    assert say("rollback")[1].splitlines()[-1] == "cats: default 2 -> 1, previous 1 -> none"
    say("shadow", "2")
    say("canary", "2", "--share", "5")
    assert say("shadow", "--clear")[1].splitlines()[-1] == "cats: shadow 2 ended"
    assert say("canary", "--clear")[1].splitlines()[-1] == "cats: canary 2 ended"


def test_figures_of_trials_and_the_audit_log(server: Fake, say: Say):
    say("shadow", "2")
    out = say("shadow")[1]
    assert out.startswith(
        "version 2 as the shadow of 1: 300 inputs compared, agreement (same label) 0.9900 (0.9800 to 1.0000)\n"
        "3 inputs dropped, 0 failed\ndifference: mean 0.01, p95 0.05, max 0.4\n"
    )
    assert out.splitlines()[-1].split() == ["cat", "100", "0.9700", "0.9100", "to", "0.9900"]
    first, head, default, canary = say("canary")[1].splitlines()
    assert first == "the canary gets 5 % of the calls"
    assert head.split() == ["version", "role", "calls", "failed", "p50", "ms", "p95", "ms", "unfamiliar", "labels"]
    assert default.split() == ["1", "default", "1,234", "0.97", "%", "1.2", "3.4", "cat", "70", "%,", "dog", "30", "%"]
    assert "1 %" in canary
    assert say("audit")[1].splitlines()[-1].split() == ["2026-11-30T10:00:00Z", "alice", "promote", "2"]


def test_a_promotion_waits_for_the_agreement(server: Fake, say: Say):
    code, out, err = say("promote", "candidate", "--if-agreement", "0.98", "--after", "1000")
    assert code == 0
    assert ("POST", "/v1/models/cats/promote", {"version": "candidate", "if_agreement": 0.98, "after": 1000}) in (
        server.requests
    )
    assert err.splitlines()[0] == ("300 of 1,000 inputs compared, agreement (same label) 0.9900 (0.9800 to 1.0000)")
    assert len(err.splitlines()) == 4
    assert out.splitlines()[-1] == "cats/2 is the default: 2 promoted: agreement 0.99"


def test_a_version_that_does_not_agree_ends_with_an_error_and_the_reason(server: Fake, say: Say):
    server.agreement = 0.5
    code, out, _ = say("promote", "--if-agreement", "0.98")
    assert code == 1
    assert out.splitlines()[-1] == (
        "cats/2 was not promoted: 2 withdrawn: agreement 0.5 against 0.98 after 1200 inputs"
    )
    code, out, _ = say("promote", "2", "--if-agreement", "0.98", "--json")
    assert (code, json.loads(out)["default"]) == (1, "1")


def test_a_process_that_has_not_read_the_policy_yet_does_not_end_the_wait(
    server: Fake, say: Say, monkeypatch: pytest.MonkeyPatch
):
    current, states = server.state, []

    def state() -> dict:
        states.append(current())
        return {**states[-1], "shadow": None} if len(states) == 3 else states[-1]

    monkeypatch.setattr(server, "state", state)
    assert say("promote", "2", "--if-agreement", "0.98")[0] == 0
    assert states[2]["shadow"] is not None


def test_versions_that_cannot_be_compared_end_the_wait(server: Fake, say: Say, monkeypatch: pytest.MonkeyPatch):
    figures = server.figures

    def incomparable() -> dict:
        return {**figures(), "compared": 0, "measure": None, "agreement": None, "verdict": "the inputs differ"}

    monkeypatch.setattr(server, "figures", incomparable)
    code, out, err = say("promote", "2", "--if-agreement", "0.98")
    assert (code, err) == (1, "")
    assert out.splitlines()[-1] == "cats/2 stays a shadow: the inputs differ"
    assert say("shadow")[1].splitlines()[0] == "version 2 as the shadow of 1: 0 inputs compared"


def test_a_promotion_need_not_be_waited_for(server: Fake, say: Say):
    code, out, err = say("promote", "2", "--if-agreement", "0.98", "--no-wait")
    assert (code, err) == (0, "")
    assert out.splitlines()[-2:] == [
        "cats: shadow 2 at 100 % until 1,000 inputs are compared",
        "the server decides; see: quartet models status cats",
    ]


def test_what_the_server_refuses_is_one_line(server: Fake, say: Say, capsys: pytest.CaptureFixture[str]):
    assert say("promote", "9") == (
        1,
        "",
        "error: models/cats/serving.toml cannot be written: edit it where it comes from.\n",
    )
    assert main(["models", "status", "dogs"]) == 2
    assert capsys.readouterr().err == "error: There is no model 'dogs'; there are cats.\n"
    assert say("shadow") == (1, "", "error: cats has no shadow.\n")


def test_a_key_is_sent_and_its_lack_is_explained(server: Fake, say: Say, monkeypatch: pytest.MonkeyPatch):
    server.key = "secret"
    assert say("status") == (1, "", "error: A key is needed. Set QUARTET_API_KEY.\n")
    monkeypatch.setenv("QUARTET_API_KEY", "wrong")
    assert say("status") == (1, "", "error: A key is needed.\n")
    monkeypatch.setenv("QUARTET_API_KEY", "secret")
    assert say("status")[0] == 0


def test_the_former_variable_is_accepted(server: Fake, say: Say, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("QUARTET_URL")
    monkeypatch.setenv("QUARTET_SERVER", server.url)
    assert say("status", "--format", "json")[0] == 0


def test_a_server_may_be_named_and_one_that_is_not_there_is_said(server: Fake, say: Say, monkeypatch):
    monkeypatch.setenv("QUARTET_URL", "http://127.0.0.1:1")
    code, out, err = say("status")
    assert (code, out) == (1, "")
    assert err.startswith("error: http://127.0.0.1:1 cannot be reached")
    assert err.count("\n") == 1
    assert say("status", "--server", server.url)[0] == 0


@pytest.mark.parametrize(
    ("arguments", "about"),
    [
        (["canary", "cats", "2"], "either a --share or --steps"),
        (["canary", "cats", "2", "--share", "5", "--steps", "5 % for 1 min, 100 %"], "either a --share or --steps"),
        (["canary", "cats", "--share", "5"], "--share needs a VERSION"),
        (["canary", "cats", "2", "--share", "0.05"], "may be a fraction"),
        (["canary", "cats", "2", "--steps", "5 %, 100 %"], "has no duration"),
        (["canary", "cats", "2", "--share", "5", "--clear"], "--clear takes nothing else"),
        (["shadow", "cats", "2", "--clear"], "--clear takes nothing else"),
        (["alias", "cats", "stable"], "give a VERSION"),
        (["alias", "cats", "stable", "1", "--clear"], "give a VERSION"),
        (["promote", "cats", "--after", "10"], "--after is for --if-agreement"),
        (["promote", "cats", "--no-wait"], "--no-wait is for --if-agreement"),
        (["promote", "cats", "--if-agreement", "98"], "0.98 stands for 98 %"),
        (["load", "cats"], "VERSION"),
        (["status"], "NAME"),
    ],
)
def test_mistakes_are_refused_before_anything_is_sent(server: Fake, arguments, about, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["models", *arguments])
    assert ended.value.code == 2
    assert about in capsys.readouterr().err
    assert server.requests == []


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help(verb: str, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as ended:
        main(["models", verb, "--help"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: quartet models {verb} ")
