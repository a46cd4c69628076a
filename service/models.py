"""The models of a folder, opened as the settings say."""

import logging
import math
from collections.abc import Collection

from service.inference.cuda import serving_device
from service.inference.observers import Observers
from service.inference.performance import Known
from service.inference.repository import Repository
from service.inference.tuning import machine_key, read_tuning
from service.inference.variants import Selection
from service.inference.versions import Newest
from service.settings import Settings
from service.tasks.registry import Registry

logger = logging.getLogger(__name__)


def repository_of(
    settings: Settings,
    registry: Registry,
    *,
    observers: Observers | None = None,
    only: Collection[str] = (),
    policy: Newest | None = None,
    patient: bool = False,
) -> Repository:
    """The repository of a service; it holds nothing yet.

    Args:
        settings: of the service.
        registry: the tasks of the models.
        observers: are told of batches and drops.
        only: names of the models that are wanted; all, where there are none.
        policy: which versions are loaded and which of them answers.
        patient: whether calls wait however long it takes, instead of being refused.
    """
    machine = machine_key(serving_device(settings.device))

    tuning = read_tuning(settings.tuning_file)
    unused = [tuning]  # the start takes what has been read already, and a reload reads anew

    def read_known() -> Known:
        now = unused.pop() if unused else read_tuning(settings.tuning_file)
        graphs = now.machines.get(machine, {})
        if graphs:
            logger.info("%s: %d graphs were measured on this machine before", settings.tuning_file.name, len(graphs))
        return lambda sha256: graphs[sha256].performance if sha256 in graphs else None

    return Repository(
        settings.models,
        registry.kinds,
        device=settings.device,
        threads=settings.threads or tuning.threads(machine) or 0,
        read_known=read_known,
        max_batch=settings.max_batch,
        max_queue=1_000_000_000 if patient else settings.max_queue,
        max_wait=math.inf if patient else settings.max_wait,
        gpu_memory_mb=settings.gpu_memory_mb,
        observers=observers,
        selection=Selection.parse(settings.variant),
        only=only,
        policy=policy,
    )
