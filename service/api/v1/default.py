"""Which model answers where a request names none."""

from collections.abc import Collection

from service.inference.repository import Version
from service.tasks.base import Operation, Task


def default_model(task: Task, operation: Operation, versions: Collection[Version]) -> str | None:
    """The model of the operation's usual name, or else the only one of its task; None where a request must name one.

    Args:
        task: of the operation.
        operation: that is asked for.
        versions: all that are served.
    """
    names = {version.name for version in versions if isinstance(version.manifest, task.manifest)}
    if operation.default_model in names:
        return operation.default_model
    return names.pop() if len(names) == 1 else None
