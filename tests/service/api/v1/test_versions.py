"""A value per version is computed once, also for concurrent callers, and again after a failure."""

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from service.api.v1.versions import VersionCache
from service.tasks.threads import Threads


class Version:
    """Anything that can be referred to weakly."""


@pytest.fixture
def threads() -> Iterator[Threads]:
    made = Threads(2)
    yield made
    made.close()


async def test_concurrent_callers_share_the_work(threads: Threads):
    gate, calls = threading.Event(), []

    def make(version: Any) -> str:
        calls.append(version)
        gate.wait(10)
        return "made"

    values, version = VersionCache(make), Version()
    asking = [asyncio.ensure_future(values.get(version, threads)) for _ in range(20)]  # type: ignore[arg-type]
    await asyncio.sleep(0)
    asking.pop().cancel()
    gate.set()
    assert await asyncio.gather(*asking) == ["made"] * 19
    assert await values.get(version, threads) == "made"  # type: ignore[arg-type]
    assert calls == [version]


async def test_a_failure_is_not_kept(threads: Threads):
    outcomes = iter([OSError("gone"), "made"])

    def make(version: Any) -> str:
        outcome = next(outcomes)
        if isinstance(outcome, OSError):
            raise outcome
        return outcome

    values, version = VersionCache(make), Version()
    with pytest.raises(OSError, match="gone"):
        await values.get(version, threads)  # type: ignore[arg-type]
    assert await values.get(version, threads) == "made"  # type: ignore[arg-type]
