"""Captured items with what is known of them."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from service.capture.database import Selection
from service.capture.feedback_table import Feedback
from service.capture.store import Item, Store
from service.tasks.truth import NUMBER as NUMBER_TRUTH

# Of an image whose answer has neither labels nor boxes, of a row, and so on: what an answer is about.
CLASSES, BOXES, NUMBER, NONE = "classes", "boxes", "number", "none"


@dataclass(frozen=True, slots=True)
class Captured:
    """An item and the feedback on it.

    Attributes:
        item: as it was kept.
        truth: the true label, number or boxes; None if nobody has said.
        right: whether the answer was called right; None if nobody has said.
    """

    item: Item
    truth: Any = None
    right: bool | None = None

    @property
    def kind(self) -> str:
        """What the answer holds."""
        answer = self.item.answer
        kinds = (("labels", CLASSES), ("boxes", BOXES), ("value", NUMBER))
        return next((kind for name, kind in kinds if name in answer), NONE)

    @property
    def answered(self) -> Any:
        """The model's own answer in the form of a truth; None if it was withheld."""
        answer = self.item.answer
        match self.kind:
            case "classes":
                return answer["labels"][0]["label"] if answer["labels"] else None
            case "boxes":
                return [
                    {name: box[name] for name in ("label", "x_min", "y_min", "x_max", "y_max")}
                    for box in answer["boxes"]
                ]
            case "number":
                return answer["value"]
        return None


def captured(store: Store, where: Selection | None = None) -> Iterator[Captured]:
    """The selected items, each with the last feedback on it."""
    # A client may use an ID again; the time of the answer tells the requests apart.
    said = {(each.request, each.index, each.time): each for each in store.feedback()}
    for item in store.items(where):
        feedback = said.get((item.request, item.index, item.time))
        if feedback is None:
            yield Captured(item)
        else:
            yield Captured(item, feedback.truth, _is_right(feedback))


def _is_right(feedback: Feedback) -> bool | None:
    """Whether the answer was right; None for a number, which has an error instead."""
    if "right" in feedback.said:
        return bool(feedback.said["right"])
    return None if feedback.figure == NUMBER_TRUTH.figure else feedback.points == feedback.weight
