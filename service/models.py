"""The opener and the repository that the settings describe."""

import math
from collections.abc import Collection

from service.inference.device import available_cpus
from service.inference.loading import Loader
from service.inference.observers import Observers
from service.inference.opener import Opener
from service.inference.repository import Repository
from service.inference.variants import Selection
from service.policy.file import Policies, PolicyFiles
from service.settings import Settings
from service.tasks.registry import Registry

_UNBOUNDED_QUEUE = 1_000_000_000


def opener_of(settings: Settings, registry: Registry) -> Opener:
    """Makes an opener for models of the registry's tasks."""
    loader = Loader(
        registry.kinds,
        settings.device,
        settings.threads or available_cpus(),
        settings.max_batch,
        settings.gpu_memory_mb,
    )
    return Opener(loader, Selection.parse(settings.variant))


def policies_of(settings: Settings) -> PolicyFiles:
    """The policies of the models."""
    return PolicyFiles(settings.models, settings.state)


def repository_of(
    settings: Settings,
    registry: Registry,
    *,
    opener: Opener | None = None,
    observers: Observers | None = None,
    only: Collection[str] = (),
    policies: Policies | None = None,
    unbounded: bool = False,
) -> Repository:
    """Makes a repository, which `load_all` fills; `Repository` describes further arguments.

    Args:
        settings: of the service.
        registry: the tasks of the models.
        opener: may have begun to open the models; a new one by default.
        unbounded: whether calls wait for any length of time, instead of being refused.
    """
    opener = opener or opener_of(settings, registry)
    repository = Repository(
        settings.models,
        opener,
        max_queue=_UNBOUNDED_QUEUE if unbounded else settings.max_queue,
        max_wait=math.inf if unbounded else settings.max_wait,
        observers=observers,
        only=only,
        policies=policies or policies_of(settings),
    )
    repository.fits = opener.fits
    return repository
