"""The repository that the settings describe."""

import math
from collections.abc import Collection

from service.inference.observers import Observers
from service.inference.opener import Opener
from service.inference.repository import Repository
from service.inference.variants import Selection
from service.inference.versions import Newest
from service.settings import Settings
from service.tasks.registry import Registry

_UNBOUNDED_QUEUE = 1_000_000_000


def opener_of(settings: Settings, registry: Registry) -> Opener:
    """Makes an opener.

    Args:
        settings: of the service.
        registry: the tasks of the models.
    """
    return Opener(
        registry.kinds,
        device=settings.device,
        threads=settings.threads,
        max_batch=settings.max_batch,
        gpu_memory_mb=settings.gpu_memory_mb,
        selection=Selection.parse(settings.variant),
    )


def repository_of(
    settings: Settings,
    registry: Registry,
    *,
    opener: Opener | None = None,
    observers: Observers | None = None,
    only: Collection[str] = (),
    policy: Newest | None = None,
    unbounded: bool = False,
) -> Repository:
    """Makes a repository; `load_all` fills it.

    Args:
        settings: of the service.
        registry: the tasks of the models.
        opener: opens the models, and may have begun to; a new one by default.
        observers: are told of batches and drops.
        only: names of the models to load; empty for all.
        policy: which versions are loaded and which of them answers.
        unbounded: whether calls wait however long it takes, instead of being refused.
    """
    return Repository(
        settings.models,
        opener or opener_of(settings, registry),
        max_queue=_UNBOUNDED_QUEUE if unbounded else settings.max_queue,
        max_wait=math.inf if unbounded else settings.max_wait,
        observers=observers,
        only=only,
        policy=policy,
    )
