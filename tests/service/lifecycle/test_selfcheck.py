"""The self-check: a damaged weight is found, and nothing else takes a version out."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

from service.errors import Overloaded
from service.inference import runtime
from service.inference.leases import Version
from service.inference.loading import Loader
from service.inference.observers import Observers, SelfChecked
from service.inference.opener import Opener
from service.inference.repository import Repository
from service.lifecycle import selfcheck
from service.lifecycle.selfcheck import SelfCheck
from service.tasks.registry import BUILT_IN
from tests.corrupted import Weight, owned_weight
from tests.gated import rerun
from tests.tiny import SIZE, write_model, wrong_golden

PATIENCE = 30  # seconds until a waiting test fails


class Recorder(Observers):
    """Keeps the events of self-checks."""

    def __init__(self) -> None:
        super().__init__()
        self.events: list[SelfChecked] = []

    def publish(self, event: Any) -> None:
        if isinstance(event, SelfChecked):
            self.events.append(event)


class Checked:
    """A repository with the tiny classifier, and its self-check; `out` are the versions taken out, and why."""

    def __init__(self, folder: Path, period: float = 60.0, max_queue: int = 100) -> None:
        opener = Opener(Loader(BUILT_IN.kinds, "cpu", 1, 64))
        self.repository = Repository(folder, opener, max_queue=max_queue, max_wait=60.0)
        self.recorder = Recorder()
        self.out: list[tuple[str, str]] = []
        self.was_taken_out = asyncio.Event()
        self.check = SelfCheck(self.repository, period, self._take_out, self.recorder)

    async def _take_out(self, version: Version, why: str) -> None:
        self.out.append((version.label, why))
        self.was_taken_out.set()

    @property
    def version(self) -> Version:
        return self.repository.models["classifier"]

    @property
    def outcomes(self) -> list[bool]:
        return [event.failed for event in self.recorder.events]

    def answer(self, change: Callable[[list[tuple[Any, ...]]], Sequence[Any]]) -> list[int]:
        """Has `change` replace the answers of every batch; returns the list of sizes of the batches."""
        run, sizes = self.version.batcher.flow.run, []

        def changed(items: list[Any]) -> Sequence[Any]:
            sizes.append(len(items))
            return change(list(run(items)))

        rerun(self.version.batcher, changed)
        return sizes


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selfcheck, "_PAUSE_SECONDS", 0.0)


@pytest.fixture
async def checked(tmp_path: Path) -> AsyncIterator[Checked]:
    write_model(tmp_path)
    made = Checked(tmp_path)
    await made.repository.load_all()
    yield made
    await made.repository.close()


@pytest.fixture
def weight(monkeypatch: pytest.MonkeyPatch) -> Weight:
    """The only weight of the tiny classifier, in memory that the test can change."""
    weight = Weight()
    monkeypatch.setattr(runtime, "_options", owned_weight(weight, runtime._options))
    return weight


async def test_a_flipped_bit_in_a_loaded_weight_is_found(weight: Weight, tmp_path: Path):
    write_model(tmp_path)
    checked = Checked(tmp_path)
    await checked.repository.load_all()
    await checked.check.check(checked.version)
    assert (checked.outcomes, checked.out) == ([False], [])
    weight.flip(23)
    await checked.check.check(checked.version)
    assert checked.outcomes == [False, True]
    ((label, why),) = checked.out
    assert label == "classifier/1"
    assert "output probabilities differs from golden.npz's by 0.15, more than 1e-05" in why
    await checked.repository.close()


async def test_it_runs_by_itself(weight: Weight, tmp_path: Path):
    write_model(tmp_path)
    checked = Checked(tmp_path, period=0.01)
    await checked.repository.load_all()
    running = asyncio.create_task(checked.check.run())
    weight.flip(23)
    async with asyncio.timeout(PATIENCE):
        await checked.was_taken_out.wait()
    running.cancel()
    await checked.repository.close()


async def test_one_wrong_answer_is_not_enough(checked: Checked):
    changes = iter([True])

    def once(rows: list[tuple[Any, ...]]) -> Sequence[Any]:
        return [(row[0] + 1,) for row in rows] if next(changes, False) else rows

    checked.answer(once)
    await checked.check.check(checked.version)
    assert (checked.outcomes, checked.out) == ([False], [])


@pytest.mark.parametrize("value", [np.nan, np.inf])
async def test_what_is_no_number_is_wrong(checked: Checked, value: float):
    checked.answer(lambda rows: [(row[0] * value,) for row in rows])
    await checked.check.check(checked.version)
    assert checked.outcomes == [True]
    assert "differs" in checked.out[0][1]


async def test_an_answer_of_another_shape_is_wrong(checked: Checked):
    checked.answer(lambda rows: [(row[0][:2],) for row in rows])
    await checked.check.check(checked.version)
    assert "output probabilities is (4, 2), not (4, 3)" in checked.out[0][1]


async def test_a_model_that_fails_on_its_golden_rows_is_wrong(checked: Checked):
    def fail(rows: list[tuple[Any, ...]]) -> Sequence[Any]:
        raise RuntimeError("no kernel")

    checked.answer(fail)
    await checked.check.check(checked.version)
    assert "it fails on golden.npz" in checked.out[0][1]
    assert "no kernel" in checked.out[0][1]


async def test_another_golden_file_on_disk_says_nothing_about_the_loaded_version(
    checked: Checked, caplog: pytest.LogCaptureFixture
):
    wrong_golden(checked.version.folder)
    for _ in range(2):
        await checked.check.check(checked.version)
    shutil.rmtree(checked.version.folder)
    await checked.check.check(checked.version)
    assert (checked.outcomes, checked.out) == ([], [])
    assert caplog.text.count("is served without self-checks") == 1


async def test_rows_take_turns_where_all_of_them_would_cost_too_much(checked: Checked, monkeypatch: pytest.MonkeyPatch):
    seen: list[Any] = []
    run = checked.version.batcher.flow.run
    rerun(checked.version.batcher, lambda items: seen.extend(items) or run(items))
    monkeypatch.setattr(selfcheck, "_seconds_per_row", lambda version: 0.005 * 60 / 3)
    for _ in range(4):
        await checked.check.check(checked.version)
    with np.load(checked.version.folder / "golden.npz") as golden:
        images = golden["images"]
    wanted = [row % 4 for row in range(12)]
    np.testing.assert_array_equal(np.stack(seen), images[wanted])
    assert checked.outcomes == [False] * 4


async def test_rows_run_in_portions(checked: Checked, monkeypatch: pytest.MonkeyPatch):
    sizes = checked.answer(lambda rows: rows)
    monkeypatch.setattr(selfcheck, "_seconds_per_row", lambda version: 0.0016)
    await checked.check.check(checked.version)
    assert sizes == [3, 1]


async def test_a_full_queue_is_asked_again_and_in_the_end_not_asked(checked: Checked, monkeypatch: pytest.MonkeyPatch):
    def refuse(*_: object) -> None:
        raise Overloaded("full", retry_after=3.0)

    now = [1000.0]
    monkeypatch.setattr(selfcheck.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(checked.version.batcher.admission, "_check", refuse)
    state = checked.check._state(checked.version, now[0])
    due = state.due
    now[0] = due
    await checked.check.check(checked.version)
    assert checked.outcomes == []
    assert not checked.check._is_time(checked.version, due + 2.9)
    assert checked.check._is_time(checked.version, due + 3.0)
    now[0] = due + 59
    await checked.check.check(checked.version)
    assert checked.outcomes == []
    now[0] = due + 60
    await checked.check.check(checked.version)
    assert checked.outcomes == [False]
    assert checked.version.batcher.admission.held == 0


async def test_a_check_is_due_once_in_a_period_and_earlier_in_an_idle_moment(checked: Checked):
    state = checked.check._state(checked.version, 0.0)
    assert 30 <= state.due <= 60
    assert not checked.check._is_time(checked.version, state.due - 31)
    assert checked.check._is_time(checked.version, state.due - 29)
    checked.version.batcher.flow.in_flight = 1
    assert not checked.check._is_time(checked.version, state.due - 1)
    assert checked.check._is_time(checked.version, state.due)
    checked.version.batcher.flow.in_flight = 0


async def test_a_version_that_closes_is_not_judged(checked: Checked):
    version = checked.version
    await version.batcher.close()
    await checked.check.check(version)
    assert (checked.outcomes, checked.out) == ([], [])


async def test_what_goes_wrong_with_one_version_does_not_end_the_checks(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    for name in ("a", "b"):
        write_model(tmp_path, name)
    checked = Checked(tmp_path, period=0.01)
    await checked.repository.load_all()
    done, failed, check = asyncio.Event(), asyncio.Event(), checked.check.check

    async def fail(version: Version) -> None:
        if version.name == "a":
            failed.set()
            raise OSError("Too many open files")
        await check(version)
        if failed.is_set():
            done.set()

    monkeypatch.setattr(checked.check, "check", fail)
    running = asyncio.create_task(checked.check.run())
    async with asyncio.timeout(PATIENCE):
        await done.wait()
    running.cancel()
    assert "the self-check of a/1 failed" in caplog.text
    await checked.repository.close()


def test_the_flipped_weight_belongs_to_the_session():
    # What the tests above rely on: the session computes with the memory of the test.
    weight = Weight()
    from tests.tiny import answer, graph

    session = ort.InferenceSession(graph().SerializeToString(), owned_weight(weight, runtime._options)(1))
    images = np.random.default_rng(0).integers(0, 256, (4, SIZE, SIZE, 3), dtype=np.uint8)
    np.testing.assert_allclose(session.run(None, {"images": images})[0], answer(images), atol=1e-6)
    weight.flip(23)
    assert np.abs(session.run(None, {"images": images})[0] - answer(images)).max() > 0.1
