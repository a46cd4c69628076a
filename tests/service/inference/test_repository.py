"""The repository: the highest good version serves, a bad one is refused with its reason, a reload loses nothing."""

import asyncio
import gc
import re
import shutil
import threading
import time
import weakref
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from service.errors import Draining, ModelBroken, UnknownModel, WrongTask
from service.inference.cuda import cuda_problem
from service.inference.device import DeviceUnavailable
from service.inference.leases import Version
from service.inference.loading import Kind, Loader
from service.inference.manifest import InvalidModel
from service.inference.opener import Opener
from service.inference.repository import NothingToServe, Repository
from service.inference.versions import versions_in
from service.policy.file import FixedPolicy
from service.policy.policy import Policy, Shadow
from service.tasks.registry import BUILT_IN
from tests.cuda import fake_cuda
from tests.gated import enqueue, rerun, submit
from tests.tiny import answer, solid, write_model, wrong_golden

MakeRepository = Callable[..., Repository]


@pytest.fixture
async def repository_of() -> AsyncIterator[MakeRepository]:
    made: list[Repository] = []

    def make(
        folder: Path, kinds: dict[str, Kind] = BUILT_IN.kinds, policy: Policy | None = None, **opens: object
    ) -> Repository:
        opener = Opener(Loader(kinds, **{"device": "cpu", "threads": 1, "max_batch": 64} | opens))
        made.append(
            Repository(folder, opener, max_queue=100, max_wait=60.0, policies=FixedPolicy(policy) if policy else None)
        )
        return made[-1]

    yield make
    for repository in made:
        await repository.close()


async def test_the_highest_version_serves(tmp_path: Path, repository_of: MakeRepository):
    for version in ("1", "9", "10"):
        write_model(tmp_path, version=version)
    for other in ("draft", "1" * 19, "1" * 255, "\N{ARABIC-INDIC DIGIT NINE}\N{ARABIC-INDIC DIGIT NINE}"):
        (tmp_path / "classifier" / other).mkdir()
    (tmp_path / "classifier" / "99").write_text("a file is no version")
    (tmp_path / "README.md").touch()
    repository = repository_of(tmp_path)
    await repository.load_all()
    model = repository.models["classifier"]
    assert (model.name, model.version, model.device) == ("classifier", "10", "cpu")
    assert repository.refused == {}
    (row,), _ = await submit(model.batcher, [solid("green")])
    np.testing.assert_allclose(row[0], answer(solid("green")[None])[0], atol=1e-6)


async def test_a_batch_is_no_larger_than_the_manifest_was_checked_for(tmp_path: Path, repository_of: MakeRepository):
    write_model(tmp_path, "small", max_batch=3)
    write_model(tmp_path, "large", max_batch=512)
    repository = repository_of(tmp_path)
    await repository.load_all()
    assert {name: model.max_batch for name, model in repository.models.items()} == {"small": 3, "large": 64}


@pytest.mark.parametrize("fault", ["golden", "sha256", "manifest", "name", "graph"])
async def test_a_broken_version_is_refused_and_the_one_below_serves(
    tmp_path: Path, repository_of: MakeRepository, fault: str
):
    write_model(tmp_path)
    if fault == "golden":
        write_model(tmp_path, version="2", change=wrong_golden)
    elif fault == "name":
        write_model(tmp_path, version="2", description="x")
        card = tmp_path / "classifier" / "2" / "manifest.json"
        card.write_text(card.read_text().replace('"name": "classifier"', '"name": "other"'))
    elif fault == "graph":
        write_model(tmp_path, version="2", change=lambda folder: (folder / "model.onnx").write_bytes(b"no graph"))
    else:
        folder = write_model(tmp_path, version="2")
        name = "model.onnx" if fault == "sha256" else "manifest.json"
        (folder / name).write_bytes((folder / name).read_bytes() + b"x")
    repository = repository_of(tmp_path)
    await repository.load_all()
    assert repository.models["classifier"].version == "1"
    (reason,) = repository.refused.values()
    assert list(repository.refused) == ["classifier/2"]
    says = {
        "golden": "differs",
        "sha256": "model.onnx: is not the file",
        "manifest": "manifest.json",
        "name": "'other'",
        "graph": "onnx",
    }
    assert says[fault] in reason
    # Clients read it too.
    assert str(tmp_path) not in reason
    assert not re.search(r"[0-9a-f]{64}", reason)


async def test_no_valid_version(tmp_path: Path, repository_of: MakeRepository):
    write_model(tmp_path, change=wrong_golden)
    with pytest.raises(NothingToServe, match=r"classifier/1: .* differs"):
        await repository_of(tmp_path).load_all()


async def test_an_empty_folder(tmp_path: Path, repository_of: MakeRepository):
    with pytest.raises(NothingToServe, match="holds no versions"):
        await repository_of(tmp_path).load_all()
    (tmp_path / "classifier").mkdir()
    with pytest.raises(NothingToServe, match="holds no versions"):
        await repository_of(tmp_path).load_all()


async def test_a_missing_folder(tmp_path: Path, repository_of: MakeRepository):
    with pytest.raises(NothingToServe, match=r"nowhere does not exist: set QUARTET_MODELS"):
        await repository_of(tmp_path / "nowhere").load_all()


@pytest.mark.skipif(cuda_problem() is None, reason="CUDA works here")
async def test_a_missing_device_ends_the_start(tmp_path: Path, repository_of: MakeRepository):
    write_model(tmp_path)
    with pytest.raises(DeviceUnavailable):
        await repository_of(tmp_path, device="cuda").load_all()


async def test_an_unknown_model_names_those_there_are(tmp_path: Path, repository_of: MakeRepository):
    write_model(tmp_path, "a")
    write_model(tmp_path, "b")
    write_model(tmp_path, "broken", change=wrong_golden)
    repository = repository_of(tmp_path)
    await repository.load_all()
    with pytest.raises(UnknownModel, match="No model 'nope' is served: there are a, b"):
        repository.lease("nope")
    with pytest.raises(UnknownModel, match=r"'broken' is served \(.*differs.*\): there are a, b"):
        repository.lease("broken")


async def test_a_reload_replaces_without_losing_what_waits(tmp_path: Path, repository_of: MakeRepository):
    write_model(tmp_path, max_batch=2)
    repository = repository_of(tmp_path, policy=Policy(load=1))
    await repository.load_all()
    lease = repository.lease("classifier")
    old = lease.version
    gate, entered = threading.Event(), threading.Event()
    run = old.batcher.flow.run

    def gated(items: list) -> list:
        entered.set()
        assert gate.wait(30)
        return run(items)

    rerun(old.batcher, gated)
    submissions = [enqueue(old.batcher, [solid(label)]) for label in ("red", "green", "blue", "red", "green")]
    assert await asyncio.to_thread(entered.wait, 30)
    await repository.load_all()
    assert repository.models["classifier"] is old  # nothing new was found
    write_model(tmp_path, version="2")
    await repository.load_all()
    # The new version serves while the old one is still working.
    new = repository.models["classifier"]
    assert new.version == "2"
    assert (await submit(new.batcher, [solid("blue")]))[0][0][0].argmax() == 2
    # A request that began before the reload has more items to submit.
    late = enqueue(old.batcher, [solid("blue")])
    gate.set()
    answers = await asyncio.gather(*(submission.future for submission in (*submissions, late)))
    assert [int(rows[0][0].argmax()) for rows in answers] == [0, 1, 2, 0, 1, 2]
    lease.release()
    await repository.settled()
    with pytest.raises(Draining):
        enqueue(old.batcher, [solid("red")])


async def test_a_version_is_closed_when_its_last_lease_is_returned(tmp_path: Path, repository_of: MakeRepository):
    write_model(tmp_path)
    repository = repository_of(tmp_path, policy=Policy(load=1))
    closed: list[str] = []
    repository.on_closed = lambda: closed.append("closed")
    await repository.load_all()
    with repository.lease("classifier") as first:
        second = repository.lease("classifier")
        write_model(tmp_path, version="2")
        await repository.load_all()
        with repository.lease("classifier") as new:
            assert new.version.version == "2"
        old = first.version
        assert second.version is old
        first.release()
        first.release()  # a second release
        await repository.settled()
        assert (await submit(old.batcher, [solid("green")]))[0][0][0].argmax() == 1
        assert closed == []
        second.release()
        async with asyncio.timeout(1):
            await repository.settled()
        with pytest.raises(Draining):
            enqueue(old.batcher, [solid("red")])
        assert closed == ["closed"]


async def test_a_version_that_nobody_uses_is_closed_at_once(tmp_path: Path, repository_of: MakeRepository):
    write_model(tmp_path)
    repository = repository_of(tmp_path, policy=Policy(load=1))
    await repository.load_all()
    old = repository.models["classifier"]
    write_model(tmp_path, version="2")
    await repository.load_all()
    async with asyncio.timeout(1):
        await repository.settled()
    with pytest.raises(Draining):
        enqueue(old.batcher, [solid("red")])


async def test_a_lease_on_a_version_that_stays_closes_nothing(tmp_path: Path, repository_of: MakeRepository):
    write_model(tmp_path)
    repository = repository_of(tmp_path)
    await repository.load_all()
    for _ in range(3):
        repository.lease("classifier").release()
    await repository.settled()
    assert (await submit(repository.models["classifier"].batcher, [solid("red")]))[0][0][0].argmax() == 0


async def test_a_version_can_be_named(tmp_path: Path, repository_of: MakeRepository):
    write_model(tmp_path, version="3")
    repository = repository_of(tmp_path)
    await repository.load_all()
    for name in ("classifier", "classifier/3", "classifier/latest"):
        assert repository.lease(name).version.label == "classifier/3"
    for name in ("classifier/2", "classifier/x", "classifier/3/3"):
        with pytest.raises(UnknownModel, match="'classifier' is served in the version 3, not"):
            repository.lease(name)


async def test_another_policy_keeps_two_versions(tmp_path: Path, repository_of: MakeRepository):
    for version in ("1", "2", "3"):
        write_model(tmp_path, version=version)
    repository = repository_of(tmp_path, policy=Policy(load=2))
    await repository.load_all()
    assert [version.label for version in repository.versions] == ["classifier/3", "classifier/2"]
    assert repository.lease("classifier").version.version == "3"
    previous = repository.lease("classifier/2").version
    assert (await submit(previous.batcher, [solid("blue")]))[0][0][0].argmax() == 2
    with pytest.raises(UnknownModel, match="in the version 3, 2"):
        repository.lease("classifier/1")


async def test_a_model_of_another_task_is_refused(tmp_path: Path, repository_of: MakeRepository):
    write_model(tmp_path)
    repository = repository_of(tmp_path)
    await repository.load_all()
    version = repository.models["classifier"]
    version.check_task("classification")
    with pytest.raises(WrongTask, match="for the task 'classification', not 'text'"):
        version.check_task("text")


async def test_a_version_that_is_removed_gives_way_to_the_one_below(tmp_path: Path, repository_of: MakeRepository):
    write_model(tmp_path)
    folder = write_model(tmp_path, version="2")
    repository = repository_of(tmp_path)
    await repository.load_all()
    shutil.rmtree(folder)
    await repository.load_all()
    assert repository.models["classifier"].version == "1"
    shutil.rmtree(tmp_path / "classifier" / "1")
    await repository.load_all()
    assert repository.models["classifier"].version == "1"


async def test_a_bad_new_version_leaves_the_one_that_serves(tmp_path: Path, repository_of: MakeRepository):
    write_model(tmp_path)
    repository = repository_of(tmp_path)
    await repository.load_all()
    serving = repository.models["classifier"]
    folder = write_model(tmp_path, version="2", change=wrong_golden)
    await repository.load_all()
    assert repository.models["classifier"] is serving
    assert "differs" in repository.refused["classifier/2"]
    assert (await submit(serving.batcher, [solid("red")]))[0][0][0].argmax() == 0
    # Once repaired, it serves and is no longer refused.
    shutil.rmtree(folder)
    write_model(tmp_path, version="2")
    await repository.load_all()
    assert repository.models["classifier"].version == "2"
    assert repository.refused == {}


async def test_a_version_whose_companion_cannot_be_read_is_refused(tmp_path: Path, repository_of: MakeRepository):
    def read(folder: Path) -> str:
        if folder.name == "2":
            raise OSError("no tokenizer")
        return f"of {folder.name}"

    write_model(tmp_path)
    write_model(tmp_path, version="2")
    kinds = {"classification": Kind(BUILT_IN.tasks["classification"].manifest, read)}
    repository = repository_of(tmp_path, kinds)
    await repository.load_all()
    assert "no tokenizer" in repository.refused["classifier/2"]
    assert repository.models["classifier"].companion == "of 1"


async def test_one_version_that_breaks_the_loading_does_not_keep_the_others_from_serving(
    tmp_path: Path, repository_of: MakeRepository, monkeypatch: pytest.MonkeyPatch
):
    write_model(tmp_path, "good")
    write_model(tmp_path, "odd")
    repository = repository_of(tmp_path)
    opened = repository._opener._open

    def breaks(folder: Path, wanted: str) -> object:
        if folder.parent.name == "odd":
            raise ZeroDivisionError("nobody thought of this")
        return opened(folder, wanted)

    monkeypatch.setattr(repository._opener, "_open", breaks)
    await repository.load_all()
    assert list(repository.models) == ["good"]
    assert "nobody thought of this" in repository.refused["odd/1"]


async def test_a_model_that_costs_next_to_nothing_gets_no_thread(
    tmp_path: Path, repository_of: MakeRepository, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("service.inference.performance.INLINE_SECONDS", 60.0)  # however slow the machine is
    write_model(tmp_path)
    repository = repository_of(tmp_path)
    await repository.load_all()
    rows, _ = await submit(repository.models["classifier"].batcher, [solid("green"), solid("blue")])
    assert [int(row[0].argmax()) for row in rows] == [1, 2]
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("scheduler-")]


async def test_all_models_share_the_threads_of_one_device(
    tmp_path: Path, repository_of: MakeRepository, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("service.inference.performance.INLINE_SECONDS", 0.0)
    write_model(tmp_path, "one")
    write_model(tmp_path, "two")
    repository = repository_of(tmp_path, threads=2)
    await repository.load_all()
    running = sorted(thread.name for thread in threading.enumerate() if thread.name.startswith("scheduler-"))
    assert running == ["scheduler-cpu-0", "scheduler-cpu-1"]
    for model in ("one", "two"):
        assert (await submit(repository.models[model].batcher, [solid("red")]))[0][0][0].argmax() == 0
    await repository.close()
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("scheduler-")]


def test_versions_are_numbers_the_highest_first(tmp_path: Path):
    for name in ("2", "10", "1", "v3", "-4", "5.0"):
        (tmp_path / name).mkdir()
    assert versions_in(tmp_path) == ["10", "2", "1"]


async def test_a_version_that_was_replaced_is_freed(tmp_path: Path, repository_of: MakeRepository):
    write_model(tmp_path)
    repository = repository_of(tmp_path, policy=Policy(load=1))
    await repository.load_all()
    old = weakref.ref(repository.models["classifier"].session)
    write_model(tmp_path, version="2")
    await repository.load_all()
    await repository.settled()
    gc.collect()
    assert old() is None


async def test_a_retired_version_that_hangs_is_still_watched(tmp_path: Path, repository_of: MakeRepository):
    write_model(tmp_path)
    repository = repository_of(tmp_path, policy=Policy(load=1))
    await repository.load_all()
    lease = repository.lease("classifier")
    write_model(tmp_path, version="2")
    await repository.load_all()
    assert [version.label for version in repository.versions] == ["classifier/2"]
    assert [version.label for version in repository.open_versions] == ["classifier/2", "classifier/1"]
    lease.release()
    await repository.settled()
    assert [version.label for version in repository.open_versions] == ["classifier/2"]


async def test_a_device_that_fails_leaves_no_half_loaded_version_open(
    tmp_path: Path, repository_of: MakeRepository, monkeypatch: pytest.MonkeyPatch
):
    write_model(tmp_path, version="1")
    write_model(tmp_path, version="2")
    repository = repository_of(tmp_path, policy=Policy(load=2))
    opened, made = repository._opener._open, []

    def fails_later(folder: Path, wanted: str) -> object:
        if folder.name == "1":
            raise DeviceUnavailable("gone")
        return opened(folder, wanted)

    serve = repository._open
    monkeypatch.setattr(repository._opener, "_open", fails_later)
    monkeypatch.setattr(repository, "_open", lambda *arguments: made.append(serve(*arguments)) or made[-1])
    with pytest.raises(DeviceUnavailable):
        await repository.load_all()
    with pytest.raises(Draining):
        enqueue(made[0].batcher, [solid("red")])


async def test_auto_takes_the_cpu_where_the_gpu_cannot_run_a_model(tmp_path: Path, repository_of: MakeRepository):
    write_model(tmp_path)
    with fake_cuda() as cuda:
        cuda.errors = [RuntimeError("Failed to allocate memory for requested buffer of size 123")] * 20
        strict = repository_of(tmp_path, device="cuda")
        with pytest.raises(NothingToServe, match="Failed to allocate memory"):
            await strict.load_all()
        cuda.errors = [RuntimeError("Failed to allocate memory for requested buffer of size 123")] * 20
        repository = repository_of(tmp_path, device="auto")
        await repository.load_all()
        version = repository.models["classifier"]
        assert version.device == "cpu"
        assert "Failed to allocate memory" in (version.fallback or "")
        assert (await submit(version.batcher, [solid("green")]))[0][0][0].argmax() == 1


def write_policy(models: Path, text: str, name: str = "classifier") -> None:
    (models / name / "serving.toml").write_text(text)


def loaded(repository: Repository) -> list[str]:
    return sorted(version.version for version in repository.versions)


async def test_a_policy_is_followed(tmp_path: Path, repository_of: MakeRepository):
    for version in ("1", "2", "3"):
        write_model(tmp_path, version=version)
    write_policy(
        tmp_path, 'default = "stable"\n[aliases]\nstable = "1"\ncandidate = "2"\n[shadow]\nversion = "candidate"'
    )
    repository = repository_of(tmp_path)
    await repository.load_all()
    assert loaded(repository) == ["1", "2", "3"]
    assert repository.models["classifier"].version == "1"
    lease = repository.lease("classifier")
    assert (lease.alias, lease.shadow.version) == ("stable", "2")
    assert lease.version.batcher.label == ("classifier", "1", "stable", "reference")
    assert lease.version.signature("stable")["alias"] == "stable"
    write_policy(tmp_path, "load = [2]")
    await repository.load_all()
    assert loaded(repository) == ["2"]
    assert repository.lease("classifier").shadow is None
    with pytest.raises(UnknownModel, match="in the version 2, not 'stable'"):
        repository.lease("classifier", "stable")
    assert lease.version.retired
    lease.release()
    await repository.settled()
    assert repository.open_versions == repository.versions


async def test_an_invalid_policy_leaves_the_previous_one_in_force(
    tmp_path: Path, repository_of: MakeRepository, caplog: pytest.LogCaptureFixture
):
    for version in ("1", "2"):
        write_model(tmp_path, version=version)
    write_policy(tmp_path, "default = 1")
    repository = repository_of(tmp_path)
    await repository.load_all()
    write_policy(tmp_path, "default = 2\nlod = 1")
    for _ in range(2):
        await repository.load_all()
    assert repository.models["classifier"].version == "1"
    (why,) = repository.refused.values()
    assert why == "serving.toml, line 2: lod: there is no such key; the previous policy stays in force"
    assert caplog.text.count("refused classifier/serving.toml") == 1
    write_policy(tmp_path, "default = 2")
    await repository.load_all()
    assert (repository.models["classifier"].version, repository.refused) == ("2", {})


async def test_an_invalid_policy_at_the_start_refuses_the_model_alone(tmp_path: Path, repository_of: MakeRepository):
    write_model(tmp_path)
    write_model(tmp_path, "other")
    write_policy(tmp_path, "default =")
    repository = repository_of(tmp_path)
    await repository.load_all()
    assert list(repository.models) == ["other"]
    with pytest.raises(UnknownModel, match=r"serving\.toml, line 1"):
        repository.lease("classifier")


async def test_a_start_survives_an_alias_of_a_version_that_is_missing_or_broken(
    tmp_path: Path, repository_of: MakeRepository
):
    write_model(tmp_path)
    write_model(tmp_path, version="2", change=wrong_golden)
    write_policy(tmp_path, 'load = [1]\ndefault = "stable"\n[aliases]\nstable = "2"\ncandidate = "7"')
    repository = repository_of(tmp_path)
    await repository.load_all()
    assert repository.lease("classifier").version.version == "1"
    assert "differs" in repository.refused["classifier/2"]
    with pytest.raises(ModelBroken, match="not on disk"):
        repository.lease("classifier", "candidate")
    with pytest.raises(UnknownModel, match="in the version 1, stable, not '9'"):
        repository.lease("classifier", "9")
    assert repository.unready == {}


async def test_a_policy_of_loaded_versions_is_in_force_at_once(tmp_path: Path, repository_of: MakeRepository):
    for version in ("1", "2"):
        write_model(tmp_path, version=version)
    write_policy(tmp_path, "load = 2\ndefault = 2")
    repository = repository_of(tmp_path)
    await repository.load_all()
    async with repository._loading:  # another model is being loaded
        write_policy(tmp_path, "load = 2\ndefault = 1")
        await repository.apply_policies()
        assert repository.lease("classifier").version.version == "1"
        for other in ("load = 2\ndefault = 3", "default ="):
            write_policy(tmp_path, other)
            await repository.apply_policies()
            assert repository.lease("classifier").version.version == "1"


async def test_a_policy_that_changes_during_a_load_wins(
    tmp_path: Path, repository_of: MakeRepository, monkeypatch: pytest.MonkeyPatch
):
    for version in ("1", "2", "3"):
        write_model(tmp_path, version=version)
    write_policy(tmp_path, "load = [1, 2]\ndefault = 1")
    repository = repository_of(tmp_path)
    await repository.load_all()
    opened = repository._opener._open

    def changes(folder: Path, wanted: str) -> object:
        write_policy(tmp_path, "load = [1, 2]\ndefault = 2")
        return opened(folder, wanted)

    monkeypatch.setattr(repository._opener, "_open", changes)
    write_policy(tmp_path, "load = [1, 2, 3]\ndefault = 3")
    await repository.load_all()
    assert repository.models["classifier"].version == "2"
    assert loaded(repository) == ["1", "2"] or loaded(repository) == ["1", "2", "3"]


async def test_what_was_opened_for_a_policy_that_was_overtaken_is_kept_or_closed(
    tmp_path: Path, repository_of: MakeRepository, monkeypatch: pytest.MonkeyPatch
):
    write_model(tmp_path)
    repository = repository_of(tmp_path)
    await repository.load_all()
    for version in ("2", "3"):
        write_model(tmp_path, version=version)
    opened = repository._opener._open
    folders: list[str] = []

    def changes(folder: Path, wanted: str) -> object:
        folders.append(folder.name)
        if folder.name == "3":
            write_model(tmp_path, version="4")  # found by the next look only
            write_policy(tmp_path, "load = [2, 4]\ndefault = 4")
        return opened(folder, wanted)

    made: list[Version] = []
    monkeypatch.setattr(repository._opener, "_open", changes)
    make = repository._open
    monkeypatch.setattr(repository, "_open", lambda *version: made.append(make(*version)) or made[-1])
    write_policy(tmp_path, "load = [2, 3]\ndefault = 3")
    await repository.load_all()
    assert (loaded(repository), repository.models["classifier"].version) == (["2", "4"], "4")
    assert (sorted(folders), repository.refused) == (["2", "3", "4"], {})
    with pytest.raises(Draining):
        enqueue(next(version for version in made if version.version == "3").batcher, [solid("red")])


async def test_a_version_that_closes_while_the_policy_is_written_is_loaded_again(
    tmp_path: Path, repository_of: MakeRepository
):
    for version in ("1", "2"):
        write_model(tmp_path, version=version)
    write_policy(tmp_path, "load = 2\ndefault = 2")
    repository = repository_of(tmp_path)
    await repository.load_all()
    wanted = Policy(default="1", previous="2")

    def write() -> Policy:
        # A reload that has begun with the old policy ends first.
        asyncio.run_coroutine_threadsafe(retire(), loop).result(30)
        write_policy(tmp_path, "default = 1\nprevious = 2")
        return wanted

    async def retire() -> None:
        served = repository.served["classifier"]
        repository._serve("classifier", served.policy, {"2": served.loaded["2"]})

    loop = asyncio.get_running_loop()
    await repository.change_policy("classifier", wanted, write)
    assert (loaded(repository), repository.models["classifier"].version) == (["1", "2"], "1")


@pytest.mark.parametrize("turn", [1, 2, 3])
async def test_a_policy_that_is_read_while_another_one_is_put_in_force_is_read_again(
    tmp_path: Path, repository_of: MakeRepository, monkeypatch: pytest.MonkeyPatch, turn: int
):
    for version in ("1", "2"):
        write_model(tmp_path, version=version)
    write_policy(tmp_path, "load = 2\ndefault = 2")
    repository = repository_of(tmp_path)
    await repository.load_all()
    loop, read = asyncio.get_running_loop(), repository._policies.read
    reads: list[Policy] = []

    def overtaken(name: str) -> Policy:
        reads.append(read(name))
        if len(reads) == turn:
            write_policy(tmp_path, "load = 2\ndefault = 1")
            change = repository.change_policy(name, read(name), lambda: read(name))
            asyncio.run_coroutine_threadsafe(change, loop).result(30)
        return reads[-1]

    monkeypatch.setattr(repository._policies, "read", overtaken)
    write_policy(tmp_path, "load = 2\ndefault = 2\n[aliases]\nold = 1")
    await (repository.apply_policies() if turn == 1 else repository.load_all())
    assert repository.models["classifier"].version == "1"


async def test_an_alias_of_a_broken_version_keeps_nobody_from_a_rollback(tmp_path: Path, repository_of: MakeRepository):
    for version in ("1", "2"):
        write_model(tmp_path, version=version)
    aliases = {"candidate": "3"}
    write_policy(tmp_path, "default = 2\nprevious = 1\n[aliases]\ncandidate = 3")
    repository = repository_of(tmp_path)
    await repository.load_all()
    async with repository._loading:  # whatever else is being loaded
        back = Policy(default="1", previous="2", aliases=aliases)
        await repository.change_policy("classifier", back, lambda: back)
        assert repository.models["classifier"].version == "1"
    for wanted in (Policy(default="candidate", aliases=aliases), Policy(default="1", aliases={"candidate": "7"})):
        with pytest.raises(InvalidModel, match="cannot be served: manifest"):
            await repository.change_policy("classifier", wanted, lambda wanted=wanted: wanted)
    assert repository.models["classifier"].version == "1"


async def test_changes_are_written_one_after_another(tmp_path: Path, repository_of: MakeRepository):
    for version in ("1", "2"):
        write_model(tmp_path, version=version)
    write_policy(tmp_path, "load = 2")
    repository = repository_of(tmp_path)
    await repository.load_all()
    writing: list[str] = []

    def write(default: str) -> Policy:
        writing.append(default)
        assert len(writing) == 1
        time.sleep(0.01)
        writing.clear()
        return Policy(load=2, default=default)

    policies = [Policy(load=2, default=str(1 + number % 2)) for number in range(8)]
    await asyncio.gather(
        *(repository.change_policy("classifier", each, partial(write, each.default)) for each in policies)
    )
    assert repository.models["classifier"].version == "2"


async def test_a_folder_that_is_replaced_while_it_is_loaded_is_refused(
    tmp_path: Path, repository_of: MakeRepository, monkeypatch: pytest.MonkeyPatch
):
    write_model(tmp_path)
    repository = repository_of(tmp_path)
    await repository.load_all()
    opened = repository._opener._open

    def replaced(folder: Path, wanted: str) -> object:
        found = opened(folder, wanted)
        shutil.rmtree(folder)
        write_model(tmp_path, version=folder.name, change=wrong_golden)
        return found

    folder = write_model(tmp_path, version="2")
    monkeypatch.setattr(repository._opener, "_open", replaced)
    await repository.load_all()
    assert (loaded(repository), list(repository.refused)) == (["1"], ["classifier/2"])
    assert "changed while it was loaded" in repository.refused["classifier/2"]
    shutil.rmtree(folder)
    write_model(tmp_path, version="2")

    def touched(folder: Path, wanted: str) -> object:
        (folder / "model.onnx").touch()
        return opened(folder, wanted)

    monkeypatch.setattr(repository._opener, "_open", touched)
    await repository.load_all()
    assert loaded(repository) == ["1", "2"]


async def test_not_every_version_of_a_folder_full_of_broken_ones_is_tried(
    tmp_path: Path, repository_of: MakeRepository, monkeypatch: pytest.MonkeyPatch
):
    write_model(tmp_path)
    repository = repository_of(tmp_path)
    await repository.load_all()
    for number in range(2, 152):
        (tmp_path / "classifier" / str(number)).mkdir()
    await repository.load_all()
    assert repository.lease("classifier").version.version == "1"
    assert len(repository.refused) == 101
    assert "none is tried" in repository.refused["classifier"]


async def test_a_version_whose_content_changes_is_refused(tmp_path: Path, repository_of: MakeRepository):
    folder = write_model(tmp_path)
    repository = repository_of(tmp_path)
    await repository.load_all()
    (folder / "golden.npz").touch()
    await repository.load_all()
    assert repository.refused == {}
    (folder / "model.onnx").write_bytes(b"other")
    await repository.load_all()
    assert "publish the new ones under another number" in repository.refused["classifier/1"]
    assert repository.lease("classifier").version.version == "1"


async def test_a_version_that_is_taken_out(tmp_path: Path, repository_of: MakeRepository):
    for version in ("1", "2"):
        write_model(tmp_path, version=version)
    write_policy(tmp_path, "load = [1]\ndefault = 2\nprevious = 1")
    repository = repository_of(tmp_path)
    await repository.load_all()
    broken = repository.lease("classifier").version
    await repository.take_out(broken, "it was wrong by 0.5")
    assert repository.lease("classifier").version.version == "1"
    assert repository.refused == {"classifier/2": "it was wrong by 0.5"}
    await repository.load_all()
    assert loaded(repository) == ["1"]
    await repository.take_out(repository.models["classifier"], "wrong too")
    assert repository.unready == {"classifier": "wrong too"}
    with pytest.raises(ModelBroken, match=r"it was wrong by 0\.5"):
        repository.lease("classifier")
    (tmp_path / "classifier" / "1" / "golden.npz").touch()
    await repository.load_all()
    assert repository.lease("classifier").version.version == "1"
    assert repository.unready == {}


async def test_a_version_is_loaded_before_the_policy_that_names_it_is_written(
    tmp_path: Path, repository_of: MakeRepository
):
    write_model(tmp_path)
    repository = repository_of(tmp_path)
    await repository.load_all()
    write_model(tmp_path, version="2")
    tried, seen = Policy(shadow=Shadow(version="2")), []

    def write() -> Policy:
        seen.append(loaded(repository))
        return tried

    await repository.change_policy("classifier", tried, write)
    assert (seen, loaded(repository), repository.models["classifier"].version) == ([["1"]], ["1", "2"], "1")
    write_model(tmp_path, version="3", change=wrong_golden)
    with pytest.raises(InvalidModel, match=r"classifier/3 cannot be served: .*differs"):
        await repository.change_policy("classifier", Policy(default="3"), write)
    assert (repository.refused, len(seen)) == ({}, 1)


async def test_a_rollback_does_not_wait_for_a_load(tmp_path: Path, repository_of: MakeRepository):
    for version in ("1", "2"):
        write_model(tmp_path, version=version)
    repository = repository_of(tmp_path, policy=Policy(load=2, default="2"))
    await repository.load_all()
    async with repository._loading:  # another model is being loaded
        back = Policy(load=2, default="1")
        await repository.change_policy("classifier", back, lambda: back)
        assert repository.models["classifier"].version == "1"


async def test_the_old_version_is_closed_first_where_memory_is_short(tmp_path: Path, repository_of: MakeRepository):
    write_model(tmp_path)
    repository = repository_of(tmp_path)
    await repository.load_all()
    repository.fits = lambda folder: folder.name != "2"
    write_model(tmp_path, version="2")
    opened, seen = repository._opener._open, []
    repository._opener._open = lambda *arguments: seen.append(loaded(repository)) or opened(*arguments)
    await repository.load_all()
    assert seen == [[]]
    assert repository.lease("classifier").version.version == "2"


async def test_a_change_of_the_policy_closes_nothing_where_memory_is_short(
    tmp_path: Path, repository_of: MakeRepository
):
    write_model(tmp_path)
    repository = repository_of(tmp_path)
    await repository.load_all()
    answers = repository.models["classifier"]
    repository.fits = lambda _: False
    write_model(tmp_path, version="2")
    wanted = Policy(load=("1", "2"))
    with pytest.raises(InvalidModel, match="classifier/2 cannot be served: there is no memory"):
        await repository.change_policy("classifier", wanted, lambda: wanted)
    assert repository.models["classifier"] is answers
    assert not answers.retired


async def test_the_version_before_the_newest_stays_for_a_rollback(tmp_path: Path, repository_of: MakeRepository):
    write_model(tmp_path)
    repository = repository_of(tmp_path)
    await repository.load_all()
    kept = repository.models["classifier"]
    assert repository.served["classifier"].former is None
    write_model(tmp_path, version="3")
    write_model(tmp_path, version="2", change=wrong_golden)
    for _ in range(2):
        await repository.load_all()
        assert loaded(repository) == ["1", "3"]
        assert repository.served["classifier"].former is kept
    aliased = Policy(aliases={"a": "3"})
    await repository.change_policy("classifier", aliased, lambda: aliased)
    assert repository.served["classifier"].former is kept
    write_model(tmp_path, version="4")
    await repository.load_all()
    assert (loaded(repository), repository.models["classifier"].version) == (["3", "4"], "4")
    shutil.rmtree(tmp_path / "classifier" / "3")
    await repository.load_all()
    assert loaded(repository) == ["4"]


@pytest.mark.parametrize("policy", ["load = 1", "default = 3", "previous = 2", "load = [3]"])
async def test_a_policy_that_says_what_is_loaded_keeps_no_other_version(
    tmp_path: Path, repository_of: MakeRepository, policy: str
):
    for version in ("1", "2"):
        write_model(tmp_path, version=version)
    write_policy(tmp_path, "load = [1]")
    repository = repository_of(tmp_path)
    await repository.load_all()
    write_model(tmp_path, version="3")
    write_policy(tmp_path, policy)
    await repository.load_all()
    assert "1" not in loaded(repository)
    assert repository.served["classifier"].former is None


async def test_a_version_that_is_kept_for_a_rollback_makes_room(tmp_path: Path, repository_of: MakeRepository):
    for name in ("classifier", "other"):
        write_model(tmp_path, name)
    repository = repository_of(tmp_path)
    await repository.load_all()
    write_model(tmp_path, version="2")
    await repository.load_all()
    assert loaded(repository) == ["1", "1", "2"]
    repository.fits = lambda _: len(repository.open_versions) < 3
    write_model(tmp_path, "other", "2")
    opened, seen = repository._opener._open, []
    repository._opener._open = lambda *arguments: seen.append(loaded(repository)) or opened(*arguments)
    await repository.load_all()
    assert seen == [["1", "2"]]
    assert sorted(version.label for version in repository.versions) == ["classifier/2", "other/1", "other/2"]


async def test_a_model_is_not_ready_while_nothing_takes_the_place_of_a_closed_version(
    tmp_path: Path, repository_of: MakeRepository
):
    write_model(tmp_path)
    repository = repository_of(tmp_path)
    await repository.load_all()
    repository.fits = lambda _: False
    write_model(tmp_path, version="2")
    unready = []
    opened = repository._opener._open
    repository._opener._open = lambda *arguments: unready.append(repository.unready) or opened(*arguments)
    await repository.load_all()
    assert unready == [{"classifier": "no version of it can answer"}]
    assert repository.unready == {}


async def test_reasons_stay_while_others_are_looked_for(tmp_path: Path, repository_of: MakeRepository):
    write_model(tmp_path)
    write_model(tmp_path, version="2", change=wrong_golden)
    repository = repository_of(tmp_path)
    await repository.load_all()
    known, seen = repository.refused, []
    assert list(known) == ["classifier/2"]
    write_model(tmp_path, version="3")
    opened = repository._opener._open
    repository._opener._open = lambda *arguments: seen.append(dict(repository.refused)) or opened(*arguments)
    wanted = Policy(aliases={"candidate": "2"})
    with pytest.raises(InvalidModel, match="differs"):
        await repository.change_policy("classifier", wanted, lambda: wanted)
    assert repository.refused == known
    await repository.load_all()
    assert seen == [known, known]
    assert (loaded(repository), repository.refused) == (["1", "3"], {})
