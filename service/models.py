"""The repository that the settings describe."""

import math
from collections.abc import Collection

from service.inference.observers import Observers
from service.inference.repository import Repository
from service.inference.variants import Selection
from service.inference.versions import Newest
from service.settings import Settings
from service.tasks.registry import Registry

_UNBOUNDED_QUEUE = 1_000_000_000


def repository_of(
    settings: Settings,
    registry: Registry,
    *,
    observers: Observers | None = None,
    only: Collection[str] = (),
    policy: Newest | None = None,
    unbounded: bool = False,
) -> Repository:
    """Makes a repository; `load_all` fills it.

    Args:
        settings: of the service.
        registry: the tasks of the models.
        observers: are told of batches and drops.
        only: names of the models to load; empty for all.
        policy: which versions are loaded and which of them answers.
        unbounded: whether calls wait however long it takes, instead of being refused.
    """
    return Repository(
        settings.models,
        registry.kinds,
        device=settings.device,
        threads=settings.threads,
        max_batch=settings.max_batch,
        max_queue=_UNBOUNDED_QUEUE if unbounded else settings.max_queue,
        max_wait=math.inf if unbounded else settings.max_wait,
        gpu_memory_mb=settings.gpu_memory_mb,
        observers=observers,
        selection=Selection.parse(settings.variant),
        only=only,
        policy=policy,
    )
