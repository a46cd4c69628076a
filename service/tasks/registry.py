"""The tasks that there are: whoever serves, loads or describes models loops over a registry of them."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Union

from pydantic import Field

from service.inference.cards import ManifestBase
from service.inference.loading import Kind
from service.inference.manifest import read_manifest as read_manifest_of
from service.tasks.autoencoder.task import AUTOENCODER, DECODER, ENCODER
from service.tasks.base import Operation, Task
from service.tasks.classification.task import CLASSIFICATION
from service.tasks.detection.task import DETECTION
from service.tasks.tabular.task import TABULAR
from service.tasks.text.task import TEXT


class Registry:
    """Tasks by name.

    Args:
        tasks: no two of a name, and no two operations of a name.

    Raises:
        ValueError: two have the same name, or a task's manifest is of another.
    """

    def __init__(self, *tasks: Task) -> None:
        self.tasks: Mapping[str, Task] = {task.name: task for task in tasks}
        names = [operation.name for task in tasks for operation in task.operations]
        for what, some in (("tasks", [task.name for task in tasks]), ("operations", names)):
            if twice := {name for name in some if some.count(name) > 1}:
                raise ValueError(f"two {what} are called {', '.join(sorted(twice))}")
        for task in tasks:
            stated = task.manifest.model_fields["task"].default
            if stated != task.name:
                raise ValueError(f"the task {task.name} has the manifest of {stated}")

    def with_tasks(self, *tasks: Task) -> "Registry":
        """These tasks and further ones."""
        return Registry(*self.tasks.values(), *tasks)

    def operations(self) -> Iterator[tuple[Task, Operation]]:
        """Every operation with its task."""
        for task in self.tasks.values():
            for operation in task.operations:
                yield task, operation

    @property
    def kinds(self) -> dict[str, Kind]:
        """What loading has to know of the tasks."""
        return {name: Kind(task.manifest, task.read_companion) for name, task in self.tasks.items()}

    @property
    def manifest_type(self) -> Any:
        """The type of any of the tasks' manifests, for pydantic."""
        kinds = tuple(task.manifest for task in self.tasks.values())
        return Annotated[Union[kinds], Field(discriminator="task")] if len(kinds) > 1 else kinds[0]  # noqa: UP007

    def read_manifest(self, folder: Path) -> ManifestBase:
        """The manifest of a version; see `service.inference.manifest.read_manifest`."""
        return read_manifest_of(folder, {name: task.manifest for name, task in self.tasks.items()})


BUILT_IN = Registry(CLASSIFICATION, DETECTION, AUTOENCODER, ENCODER, DECODER, TEXT, TABULAR)


def read_manifest(folder: Path) -> ManifestBase:
    """The manifest of a version of one of the built-in tasks.

    Raises:
        InvalidModel: as `service.inference.manifest.read_manifest` does.
    """
    return BUILT_IN.read_manifest(folder)
