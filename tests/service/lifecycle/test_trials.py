"""Shadows and canaries beside a real repository: they follow the policy, and keep no version in memory."""

import asyncio
import contextlib
import gc
import weakref
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from service.errors import InferenceFailed
from service.inference.call import BACKGROUND
from service.inference.observers import Observers
from service.inference.repository import Repository
from service.inference.scope import CallScope
from service.lifecycle import canary, shadow
from service.lifecycle.canary import Canaries
from service.lifecycle.shadow import Shadows
from service.models import repository_of
from service.processes.board import Board
from service.settings import Settings
from service.tasks.registry import BUILT_IN
from tests.gated import rerun
from tests.shadowed import failing, until
from tests.tiny import LABELS, solid, write_model


class Site:
    """A repository with its trials, wired as an application does."""

    def __init__(self, models: Path) -> None:
        self.models = models
        self.decided: list[Any] = []
        board = Board()
        self.shadows = Shadows(
            BUILT_IN.tasks,
            board,
            lambda: CallScope(self.repository, owner=BACKGROUND, timeout=30),
            lambda event: self.observers.publish(event),
            lambda *said: self.decided.append(said),
        )
        self.canaries = Canaries(
            BUILT_IN.tasks, board, lambda event: self.observers.publish(event), lambda *said: self.decided.append(said)
        )
        self.observers = Observers([self.shadows, self.canaries])
        settings = Settings(models=models, device="cpu", threads=1)
        self.repository: Repository = repository_of(settings, BUILT_IN, observers=self.observers)
        self.repository.on_change = self._changed

    def _changed(self) -> None:
        self.shadows.update(self.repository.served)
        self.canaries.update(self.repository.served)

    async def follow(self, policy: str) -> None:
        """Puts a policy in force."""
        (self.models / "classifier" / "serving.toml").write_text(policy)
        await self.repository.load_all()

    async def call(self, count: int = 1, wanted: str | None = None) -> None:
        """Calls the model with an image of each colour."""
        for _ in range(count):
            with contextlib.suppress(InferenceFailed):
                async with CallScope(self.repository, observers=self.observers) as call:
                    version = call.lease("classifier", wanted)
                    await call.infer(version, [solid(label) for label in LABELS])

    @property
    def compared(self) -> int:
        return self.shadows._trials["classifier"].figures.compared


@asynccontextmanager
async def site(models: Path) -> AsyncIterator[Site]:
    made = Site(models)
    try:
        yield made
    finally:
        await made.shadows.close()
        made.canaries.close()
        await made.repository.close()
        made.observers.flush()


async def test_a_shadow_follows_the_policy_and_is_freed(tmp_path: Path):
    write_model(tmp_path)
    write_model(tmp_path, version="2", labels=("red", "blue", "green"))
    async with site(tmp_path) as made:
        await made.follow('default = "1"\n[shadow]\nversion = "2"\n')
        await made.call(10)
        await made.call(10, wanted="2")
        await until(lambda: made.compared >= 30)
        await _moment()
        state = await made.shadows.state("classifier")
        assert state["compared"] == 30
        assert {each["label"]: each["agreement"] for each in state["classes"]} == {"red": 1, "green": 0, "blue": 0}
        candidate = weakref.ref(made.repository.served["classifier"].shadow)
        assert candidate().leases == 0
        await made.follow('load = ["1"]\ndefault = "1"\n')
        await made.repository.settled()
        assert await made.shadows.state("classifier") is None
        await _moment()
        gc.collect()
        assert candidate() is None


async def test_a_shadow_keeps_its_default_version_open_for_nobody(tmp_path: Path):
    write_model(tmp_path)
    write_model(tmp_path, version="2")
    write_model(tmp_path, version="3")
    async with site(tmp_path) as made:
        await made.follow('default = "1"\n[shadow]\nversion = "3"\n')
        await made.call()
        default = weakref.ref(made.repository.models["classifier"])
        await made.follow('default = "2"\nload = ["2"]\n[shadow]\nversion = "3"\n')
        await made.repository.settled()
        await _moment()
        gc.collect()
        assert default() is None
        assert (await made.shadows.state("classifier"))["against"] == "2"


async def test_a_shadow_that_fails_on_everything_fails_no_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(shadow, "_FAILING_SECONDS", 0.01)
    monkeypatch.setattr(shadow, "_JUDGE_SECONDS", 0.05)
    write_model(tmp_path)
    write_model(tmp_path, version="2")
    async with site(tmp_path) as made:
        await made.follow('default = "1"\n[shadow]\nversion = "2"\npromote = { agreement = 0.9, after = 50 }\n')
        rerun(made.repository.served["classifier"].shadow.batcher, failing)
        async with CallScope(made.repository, observers=made.observers) as call:
            for _ in range(30):
                await call.infer(call.lease("classifier"), [solid("red")])
        await until(lambda: made.decided)
        model, promote, why = made.decided[0]
        assert (model, promote) == ("classifier", False)
        assert "the candidate failed on" in why


async def test_a_canary_that_fails_is_withdrawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(canary, "_JUDGE_SECONDS", 0.05)
    write_model(tmp_path)
    write_model(tmp_path, version="2")
    async with site(tmp_path) as made:
        await made.follow('default = "1"\n[canary]\nversion = "2"\nshare = 0.5\nwithdraw = { after = 20 }\n')
        rerun(made.repository.served["classifier"].canary.batcher, failing)
        await made.call(100)
        await until(lambda: made.decided)
        model, why = made.decided[0]
        assert model == "classifier"
        assert why.startswith("errors 1.00 against 0.00 after ")
        state = await made.canaries.state("classifier")
        assert state["share"] == 0.5
        assert {each["role"]: each["version"] for each in state["versions"]} == {"default": "1", "canary": "2"}
        assert state["versions"][0]["labels"] == {label: pytest.approx(1 / 3) for label in LABELS}


async def _moment() -> None:
    """Time for events to be delivered."""
    await asyncio.sleep(0.1)
