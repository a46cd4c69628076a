"""Agreement between versions: what holds for every task."""

import math

import pytest

from service.tasks.agreement import Incomparable, check_comparable, measure_between
from service.tasks.base import Task
from service.tasks.registry import BUILT_IN
from tests.golden_rows import committed, rows_of_variant

MODELS = ("autoencoder", "classifier", "classifier-transfer", "decoder", "detector", "encoder", "tabular", "topics")


def test_every_task_has_a_measure():
    assert all(task.agreement for task in BUILT_IN.tasks.values())


@pytest.mark.parametrize("name", MODELS)
def test_a_version_agrees_with_itself(name: str):
    model = committed(name)
    _, compare = measure_between(model.task, model.manifest, model.manifest)
    found = [compare(row, row) for row in model.rows]
    assert all(each.agrees and each.difference == 0 for each in found)
    assert {type(each.agrees) for each in found} == {bool}
    assert {type(each.difference) for each in found} == {float}


@pytest.mark.parametrize("name", MODELS)
def test_other_inputs_get_other_answers(name: str):
    model = committed(name)
    _, compare = measure_between(model.task, model.manifest, model.manifest)
    found = [compare(row, other) for row, other in zip(model.rows, model.rows[1:] + model.rows[:1], strict=True)]
    assert not all(each.agrees for each in found)
    assert all(math.isfinite(each.difference) and each.difference > 0 for each in found)


@pytest.mark.parametrize("name", MODELS)
def test_a_row_is_written_as_the_operation_answers(name: str):
    model = committed(name)
    assert model.task.agreement is not None
    (answer, *_) = (operation.answer for operation in model.task.operations if operation.name != "generate")
    for item, row in zip(model.items, model.rows, strict=True):
        written = model.task.agreement.result(model.manifest, item, row)
        field = answer.model_fields["results"].annotation
        (result,) = field.__args__  # type: ignore[union-attr]
        parsed = result.model_validate(written).model_dump(exclude_unset=True)
        assert parsed == written


@pytest.mark.parametrize("name", MODELS)
def test_an_outcome_is_a_label_of_the_model_and_a_p_value(name: str):
    model = committed(name)
    assert model.task.agreement is not None
    for row in model.rows:
        label, p_value = model.task.agreement.outcome(model.manifest, row)
        assert label is None or label in model.manifest.labels
        assert (p_value is None) == (name == "decoder")
        assert p_value is None or 0 < p_value <= 1


@pytest.mark.parametrize("name", MODELS)
def test_an_item_becomes_a_sample(name: str):
    model = committed(name)
    assert all(len(model.samples(index)) == 1 for index in range(len(model.items)))


def test_the_int8_variant_agrees_mostly():
    model = committed("classifier")
    manifest, rows = rows_of_variant("classifier", "int8", model.items)
    _, compare = measure_between(model.task, model.manifest, manifest)
    found = [compare(row, other) for row, other in zip(model.rows, rows, strict=True)]
    assert sum(each.agrees for each in found) >= len(found) - 2
    assert 0 < max(each.difference for each in found) < 0.5


def test_versions_of_different_tasks_cannot_be_compared():
    classifier, detector = committed("classifier"), committed("detector")
    with pytest.raises(Incomparable, match="task 'detection' cannot be compared with one for 'classification'"):
        check_comparable(classifier.task, classifier.manifest, detector.manifest)


def test_versions_of_different_inputs_cannot_be_compared():
    model = committed("classifier")
    (spec,) = model.manifest.inputs
    larger = model.manifest.model_copy(update={"inputs": (spec.model_copy(update={"shape": (-1, 64, 64, 3)}),)})
    with pytest.raises(Incomparable, match=r"the default takes uint8 \(32, 32, 3\), the candidate uint8 \(64, 64, 3\)"):
        check_comparable(model.task, model.manifest, larger)


def test_a_task_without_a_measure_cannot_be_compared():
    model = committed("classifier")
    bare = Task("classification", model.task.manifest, model.task.operations)
    with pytest.raises(Incomparable, match="no measure of agreement"):
        check_comparable(bare, model.manifest, model.manifest)
