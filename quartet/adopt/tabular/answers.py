"""What an adopted graph of columns answers, decided by its answers to sample rows."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from onnx import ModelProto

from quartet.adopt.composition import Composition, element_of
from quartet.adopt.graph import Array, CannotAdopt, Loaded, Value, declare
from quartet.adopt.labels import labels_of
from quartet.adopt.tabular.tracing import attributes_of, constants_of

# How far the probabilities of a row may be from 1 together.
_SUM_TOLERANCE = 1e-3
# Some classifiers, such as SVC, do not decide for the likeliest label.
_LEAST_AGREEMENT = 0.8


@dataclass(frozen=True)
class Answer:
    """The output that answers: probabilities of labels, or without labels a number; `notes` say what was changed."""

    output: Value
    labels: tuple[str, ...] = ()
    softmax: bool = False
    notes: tuple[str, ...] = ()


class _Classes(NamedTuple):
    """Labels in the order of the probabilities; `sure` if the classifier itself states them."""

    labels: tuple[str, ...]
    sure: bool


def read_answer(loaded: Loaded, answers: Mapping[Value, Array], labels: Path | None) -> Answer:
    """What the graph answers.

    Args:
        loaded: the graph, as it was given.
        answers: its outputs for sample rows.
        labels: a file with the classes; None for those that the graph holds.

    Raises:
        CannotAdopt: the answer is neither a number nor probabilities of known classes.
    """
    scores = {value: array for value, array in answers.items() if value.dtype.startswith("float")}
    decisions = [array for value, array in answers.items() if value not in scores]
    listed = ", ".join(f"{value.name} ({value.dtype}, {list(array.shape[1:])})" for value, array in answers.items())
    if len(scores) != 1 or len(decisions) > 1:
        raise CannotAdopt(
            "outputs",
            f"The graph has the outputs {listed}; a table is answered by the probabilities of classes, with or without "
            "the class, or by one number.",
        )
    ((value, array),) = scores.items()
    if decisions:
        answer = _of_classifier(loaded, value, array, decisions[0], labels)
        kept = f"only the probabilities are kept of the outputs {', '.join(each.name for each in answers)}"
        return replace(answer, notes=(kept, *answer.notes))
    if labels is not None:
        return _of_network(value, array, labels)
    if array.size != len(array):
        raise CannotAdopt("labels", f"The graph answers with {listed}: name these classes with --labels FILE.")
    return Answer(value)


def _of_classifier(loaded: Loaded, value: Value, array: Array, decisions: Array, path: Path | None) -> Answer:
    """The probabilities of a classifier of scikit-learn, which also decides."""
    if array.ndim != 2 or array.shape[1] < 2 or not _are_probabilities(array):
        raise CannotAdopt(
            "no probabilities",
            f"The output {value.name!r} holds scores, not probabilities, and no calibration is known: in scikit-learn, "
            "wrap the classifier in CalibratedClassifierCV.",
        )
    if path is not None:
        candidates = [_Classes(_read_labels(path, array.shape[1]), sure=False)]
    else:
        candidates = [each for each in _classes(loaded) if len(each.labels) == array.shape[1]]
    if not candidates:
        raise CannotAdopt("labels", f"The graph does not name its {array.shape[1]} classes: give --labels FILE.")
    labels, share = _settle(candidates, array, _as_labels(decisions))
    said = f"in {1 - share:.0%} of the sample rows the graph decided for a label that is not the likeliest"
    return Answer(value, labels, notes=(said,) if share < 1 else ())


def _of_network(value: Value, array: Array, path: Path) -> Answer:
    """The probabilities of a network, or its scores."""
    if array.ndim != 2 or array.shape[1] < 2:
        raise CannotAdopt("outputs", f"The output {value.name!r} has no score for each label of --labels {path}.")
    labels = _read_labels(path, array.shape[1])
    if _are_probabilities(array):
        return Answer(value, labels)
    return Answer(value, labels, True, (f"output {value.name}: softmax makes probabilities of it",))


def _read_labels(path: Path, count: int) -> tuple[str, ...]:
    labels, _ = labels_of(path, {})
    if len(labels) != count:
        raise CannotAdopt("labels", f"--labels {path} has {len(labels)} labels; the graph has {count} classes.")
    return labels


def _settle(
    candidates: Sequence[_Classes], probabilities: Array, decided: Sequence[str]
) -> tuple[tuple[str, ...], float]:
    """The first classes that fit what the graph decided for, and the share of the rows in which they do."""
    share = 0.0
    for labels, sure in candidates:
        share = _agreement(probabilities, labels, decided)
        if sure or share >= _LEAST_AGREEMENT:
            return labels, share
    raise CannotAdopt(
        "labels",
        f"In {1 - share:.0%} of the sample rows the graph decided for a label that is not the likeliest: the labels "
        "may be in another order.",
    )


def _are_probabilities(array: Array) -> bool:
    sums = array.astype(np.float64).sum(1)
    return bool((array >= -_SUM_TOLERANCE).all() and (abs(sums - 1) < _SUM_TOLERANCE).all())


def _as_labels(array: Array) -> list[str]:
    """Decisions as texts; a boolean as 0 or 1, as ZipMap writes it."""
    return [str(each) for each in (array.astype(np.int64) if array.dtype == bool else array).flatten().tolist()]


def _agreement(probabilities: Array, labels: Sequence[str], decided: Sequence[str]) -> float:
    """The share of the rows in which the decision is the likeliest label; near ties do not count."""
    lower, upper = np.sort(probabilities, 1)[:, -2:].T
    clear = upper - lower > _SUM_TOLERANCE
    likeliest = [labels[index] for index in probabilities.argmax(1)]
    same = np.array([one == other for one, other in zip(likeliest, decided, strict=True)])
    return float(same[clear].mean()) if clear.any() else 1.0


def _classes(loaded: Loaded) -> Iterator[_Classes]:
    """What may be the graph's classes, the surest source first."""
    for labels in loaded.classes.values():
        yield _Classes(labels, sure=True)
    constants = constants_of(loaded.model.graph)
    for node in reversed(loaded.model.graph.node):
        for name, value in attributes_of(node).items():
            if name.startswith("classlabels"):
                yield _Classes(tuple(map(str, value)), sure=True)
            if node.op_type == "LabelEncoder" and name.startswith("values"):
                yield _Classes(tuple(map(str, value)), sure=False)
        if node.op_type in ("ArrayFeatureExtractor", "Gather") and node.input[0] in constants:
            yield _Classes(tuple(map(str, constants[node.input[0]].flatten().tolist())), sure=False)


def compose_answer(model: ModelProto, answer: Answer, columns: int) -> ModelProto:
    """The graph with one output: float32, probabilities of shape (rows, labels), or numbers of shape (rows, 1)."""
    composition = Composition(model)
    width = max(1, len(answer.labels))
    names = ("probabilities", "class_probabilities") if answer.labels else ("value", "predicted_value")
    shaped = composition.after("Reshape", answer.output.name, composition.constant(np.array([-1, width], np.int64)))
    scores = composition.after("Cast", shaped, to=element_of("float32"))
    name = composition.name(*names)
    if answer.softmax:
        composition.after("Softmax", scores, output=name, axis=-1)
    else:
        composition.after("Identity", scores, output=name)
    return composition.finish(
        [declare(model.graph.input[0].name, "float32", ["batch", columns])],
        [declare(name, "float32", ["batch", width])],
    )
