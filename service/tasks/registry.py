"""The tasks that can be served. Loading, routes and documentation loop over a registry."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from service.inference.cards import ManifestBase
from service.inference.loading import Kind
from service.inference.manifest import read_manifest as read_manifest_of
from service.tasks.autoencoder.task import AUTOENCODER, DECODER, ENCODER
from service.tasks.base import Operation, Task
from service.tasks.classification.task import CLASSIFICATION
from service.tasks.detection.task import DETECTION
from service.tasks.tabular.task import TABULAR
from service.tasks.tensors.task import TENSORS
from service.tasks.text.task import TEXT


class Registry:
    """Tasks by name.

    Raises:
        ValueError: two tasks or two operations have the same name, or a task's manifest is of another task.
    """

    def __init__(self, *tasks: Task) -> None:
        self.tasks: Mapping[str, Task] = {task.name: task for task in tasks}
        operations = [operation.name for task in tasks for operation in task.operations]
        for what, names in (("tasks", [task.name for task in tasks]), ("operations", operations)):
            if twice := {name for name in names if names.count(name) > 1}:
                raise ValueError(f"two {what} are called {', '.join(sorted(twice))}")
        for task in tasks:
            stated = task.manifest.model_fields["task"].default
            if stated != task.name:
                raise ValueError(f"the task {task.name} has the manifest of {stated}")

    def with_tasks(self, *tasks: Task) -> "Registry":
        """A registry of these tasks and further ones."""
        return Registry(*self.tasks.values(), *tasks)

    def operations(self) -> Iterator[tuple[Task, Operation]]:
        """Every operation with its task."""
        for task in self.tasks.values():
            for operation in task.operations:
                yield task, operation

    @property
    def kinds(self) -> dict[str, Kind]:
        """The manifest class and the reader of the companion of each task, for loading."""
        return {name: Kind(task.manifest, task.read_companion) for name, task in self.tasks.items()}

    def read_manifest(self, folder: Path) -> ManifestBase:
        """The manifest of a version; see `service.inference.manifest.read_manifest`."""
        return read_manifest_of(folder, {name: task.manifest for name, task in self.tasks.items()})


BUILT_IN = Registry(CLASSIFICATION, DETECTION, AUTOENCODER, ENCODER, DECODER, TEXT, TABULAR, TENSORS)


def read_manifest(folder: Path) -> ManifestBase:
    """The manifest of a version of one of the built-in tasks.

    Raises:
        InvalidModel: as `service.inference.manifest.read_manifest` does.
    """
    return BUILT_IN.read_manifest(folder)
