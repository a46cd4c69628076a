"""The task `tensors`: no operation below /v1; the Open Inference Protocol serves the tensors."""

from service.tasks.base import Task
from service.tasks.tensors.agreement import AGREEMENT
from service.tasks.tensors.manifest import TensorsManifest

TENSORS = Task(name="tensors", manifest=TensorsManifest, operations=(), agreement=AGREEMENT)
