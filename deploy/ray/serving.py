"""The service as a Ray Serve deployment: the same application, routes and answers, in as many replicas as are needed.

serve run deploy.ray.serving:quartet models=/srv/models keys=/srv/keys/keys.toml
"""

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

import ray
from ray import serve
from ray.serve import Application as ServeApplication
from starlette.types import ASGIApp

from deploy.ray.metrics import Mirror
from service.app import create_app
from service.inference.device import available_cpus
from service.settings import Settings

logger = logging.getLogger("service")

_MIRROR_SECONDS = 5.0


class Quartet:
    """A replica: one application with its models.

    Args:
        settings: by name, as `QUARTET_<NAME>` has them.
    """

    def __init__(self, settings: Mapping[str, Any]) -> None:
        logging.basicConfig(level=logging.INFO)
        self._application = create_app(_settings({"threads": _assigned_cpus(), **settings}))
        self._mirror = Mirror(serve.get_replica_context().replica_id.unique_id)
        self._mirroring: asyncio.Task[None] | None = None

    def __serve_build_asgi_app__(self) -> ASGIApp:
        """The application; its lifespan loads the models."""
        return self._application

    async def reconfigure(self, user_config: Mapping[str, Any]) -> None:
        """Loads the models that are new on disk; called by Ray Serve when `user_config` changes.

        Args:
            user_config: whatever says that there is something new, such as a revision.
        """
        if self._application.ready:
            logger.info("reloading the models: %s", dict(user_config))
            await self._application.repository.load_all()

    async def check_health(self) -> None:
        """Called by Ray Serve, which replaces the replica where this raises."""
        if self._mirroring is None:
            self._mirroring = asyncio.get_running_loop().create_task(self._mirror_metrics())
        if trouble := self._application.trouble():
            raise RuntimeError(trouble)

    async def _mirror_metrics(self) -> None:
        while True:
            self._application.measure()
            self._mirror.update(self._application.metrics.registry)
            await asyncio.sleep(_MIRROR_SECONDS)


def _settings(settings: Mapping[str, Any]) -> Settings:
    """The settings of a replica.

    Raises:
        ValueError: they neither name keys nor say that there are none. The address on which Ray's proxies listen is not
            known here, so the service cannot tell whether others reach it.
    """
    checked = Settings(**settings)
    if not checked.keys and not checked.open:
        raise ValueError("name a file of API keys (keys=/srv/keys/keys.toml), or let everyone in (open=true)")
    return checked


def _assigned_cpus() -> int:
    """The CPUs that Ray has assigned to this replica, at least one."""
    assigned = ray.get_runtime_context().get_assigned_resources().get("CPU", 0)
    return min(available_cpus(), max(1, int(assigned)))


def quartet(settings: dict[str, Any]) -> ServeApplication:
    """The Ray Serve application; what is configured of the deployment `Quartet` in YAML goes before what is said here.

    Args:
        settings: of the service, by name: models, device, timeout, …; `threads` are as many as CPUs are assigned.
    """
    _settings(settings)  # a mistake shows here, and not in the log of each replica
    return DEPLOYMENT.bind(settings)


DEPLOYMENT = serve.deployment(
    serve.ingress(None)(Quartet),
    name="Quartet",
    autoscaling_config={
        "min_replicas": 1,
        "max_replicas": 4,
        # The batcher wants several requests at a time; more than these wait for each other.
        "target_ongoing_requests": 16,
        "upscale_delay_s": 5,
        "downscale_delay_s": 120,
    },
    # Beyond these the proxy keeps requests, and refuses them when its own queue is full.
    max_ongoing_requests=256,
    max_queued_requests=4096,
    graceful_shutdown_wait_loop_s=2,
    graceful_shutdown_timeout_s=40,
    health_check_period_s=5,
    health_check_timeout_s=30,
    ray_actor_options={"num_cpus": 1},
    user_config={"revision": "1"},
)
