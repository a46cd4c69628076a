"""Decisions of the server that cannot be written: tried again, less and less often, and in force in memory."""

import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from service.app import create_app
from service.errors import InferenceFailed
from service.inference.scope import CallScope
from service.lifecycle import admin
from service.lifecycle import canary as canary_module
from service.policy.file import ReadOnly, read_policy
from service.settings import Settings
from service.stack.application import Application
from tests.gated import rerun
from tests.shadowed import failing, until
from tests.tiny import solid, write_model


@pytest.fixture
async def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Application]:
    monkeypatch.setattr(canary_module, "_JUDGE_SECONDS", 0.02)
    for version in ("1", "2"):
        write_model(tmp_path, version=version)
    policy = 'default = "1"\n[canary]\nversion = "2"\nshare = 0.5\nwithdraw = { after = 10 }\n'
    (tmp_path / "classifier" / "serving.toml").write_text(policy)
    application = create_app(Settings(models=tmp_path, device="cpu", threads=1, self_check=0))
    async with application.router.lifespan_context(application):
        yield application


class Disk:
    """Policies that cannot be written as long as `full` says why."""

    def __init__(self, app: Application, monkeypatch: pytest.MonkeyPatch) -> None:
        self.full = "No space left on device"
        self.tried = 0
        self._edit = app.lifecycle.administration._files.edit
        monkeypatch.setattr(app.lifecycle.administration._files, "edit", self._write)

    def _write(self, *positional: Any, **named: Any) -> Any:
        self.tried += 1
        if self.full:
            raise ReadOnly(self.full)
        return self._edit(*positional, **named)


async def test_a_canary_is_withdrawn_in_memory_and_written_once_that_is_possible(
    app: Application, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(admin, "_FIRST_DELAY", 0.01)
    monkeypatch.setattr(admin, "_LONGEST_DELAY", 0.05)
    disk = Disk(app, monkeypatch)
    rerun(app.repository.served["classifier"].loaded["2"].batcher, failing)
    for _ in range(10):
        with pytest.raises(InferenceFailed):
            async with CallScope(app.repository, observers=app.observers) as call:
                await call.infer(call.lease("classifier", "2"), [solid("red")])
    await until(lambda: disk.tried > 3)
    served = app.repository.served["classifier"]
    assert [served.share(version) for version in (served.default, served.canary)] == [1, 0]
    state = await app.lifecycle.canaries.state("classifier")
    assert (state["share"], state["verdict"][:11]) == (0, "errors 1.00")
    await app.repository.load_all()
    served = app.repository.served["classifier"]
    assert served.share(served.canary) == 0
    disk.full = ""
    await until(lambda: app.repository.served["classifier"].canary is None)
    assert read_policy(app.settings.models / "classifier" / "serving.toml").canary is None
    assert await app.lifecycle.canaries.state("classifier") is None


async def test_a_write_that_stays_impossible_is_tried_less_and_less_often(
    app: Application, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    now = [1000.0]
    monkeypatch.setattr(admin.time, "monotonic", lambda: now[0])
    disk = Disk(app, monkeypatch)

    async def decide() -> None:
        await app.lifecycle.administration.decide("classifier", lambda policy, _: policy, "promoted 2", "it is good")

    for _ in range(600):
        await decide()
        now[0] += 1
    assert disk.tried == 15  # after 1, 2, 4, … 32 seconds, and then every minute
    said = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert [record.getMessage() for record in said] == [
        "classifier: promoted 2: it is good: not possible yet, and tried again: No space left on device"
    ]
    disk.full = "another reason"
    now[0] += 60
    await decide()
    assert "another reason" in caplog.text
    disk.full = ""
    now[0] += 60
    await decide()
    assert app.lifecycle.administration._failures == {}


async def test_processes_that_have_different_policies_disagree(app: Application):
    lifecycle, described = app.lifecycle, []
    for policy in ('default = "1"\nload = 2\n', 'default = "1"\nload = 2\n[aliases]\nstable = "1"\n'):
        (app.settings.models / "classifier" / "serving.toml").write_text(policy)
        await app.repository.load_all()
        described.append(lifecycle._describe())
    assert described[0] != described[1]
    lifecycle._board.read = lambda _: _done([described[0], {**described[1], "worker": 1}])
    disagreeing = await lifecycle.disagreeing()
    assert [each.split(", policy ")[0] for each in disagreeing["classifier"]] == [
        "worker 1: 1 of 2, 1",
        "worker 2: 1 of 2, 1",
    ]
    lifecycle._board.read = lambda _: _done([described[0], {**described[0], "worker": 1}])
    assert await lifecycle.disagreeing() == {}


async def _done(documents: list[Any]) -> list[Any]:
    return documents
