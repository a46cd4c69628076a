"""What a call was asked and what it answered, for those who keep it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from service.tasks.base import Operation
from service.tasks.call import Upload

# Of an answer, and of the objects around it.
_ITEM_BYTES = 2000


@dataclass(slots=True)
class Asked:
    """The inputs of a call as they were sent, and its answers.

    Attributes:
        request: the request's ID, which its client may have chosen.
        key: name of the API key; None without keys.
        operation: that answered.
        model: that answered, as `version`, `variant` and `manifest`.
        time: Unix time of the answer, which tells requests of the same ID apart.
        answers: the results, in order.
        common: the fields beside the results.
        wanted: why an item is kept, by its index.
        inputs: the items that are kept, or may be kept once the shadow has answered, by their indices.
    """

    request: str
    key: str | None
    operation: Operation
    model: str
    version: str
    variant: str
    manifest: Any
    time: float
    answers: Sequence[dict[str, Any]]
    common: Mapping[str, Any] = field(default_factory=dict)
    wanted: Mapping[int, str] = field(default_factory=dict)
    inputs: Mapping[int, Any] = field(default_factory=dict)

    def size(self, index: int) -> int:
        """Bytes that an item keeps in memory, about; 0 for one that is not kept."""
        match self.inputs.get(index):
            case None:
                return 0
            case Upload(data=data):
                return _ITEM_BYTES + len(data)
            case str(text):
                return _ITEM_BYTES + 4 * len(text)
            case other:
                return _ITEM_BYTES + int(getattr(other, "nbytes", 0))
