"""Agreement of image classifiers: by the names of the labels."""

import numpy as np
import pytest

from service.tasks.agreement import Incomparable, measure_between
from tests.golden_rows import committed


def probabilities(*values: float) -> tuple[np.ndarray, ...]:
    return (np.array(values, dtype=np.float32),)


def versions(default: tuple[str, ...], candidate: tuple[str, ...]):
    model = committed("classifier")
    ours, theirs = (model.manifest.model_copy(update={"labels": labels}) for labels in (default, candidate))
    return measure_between(model.task, ours, theirs)


def test_the_difference_is_the_largest_of_a_probability():
    _, compare = versions(("cat", "dog"), ("cat", "dog"))
    agrees, difference, label = compare(probabilities(0.9, 0.1), probabilities(0.6, 0.4))
    assert (agrees, label) == (True, "cat")
    assert difference == pytest.approx(0.3)
    assert not compare(probabilities(0.9, 0.1), probabilities(0.4, 0.6)).agrees


def test_labels_in_another_order_are_compared_by_name():
    _, compare = versions(("cat", "dog"), ("dog", "cat"))
    same = compare(probabilities(0.9, 0.1), probabilities(0.1, 0.9))
    assert same == (True, pytest.approx(0), "cat")
    assert not compare(probabilities(0.9, 0.1), probabilities(0.9, 0.1)).agrees


def test_a_label_that_only_one_version_has_counts_with_its_probability():
    _, compare = versions(("cat", "dog"), ("bird", "cat", "dog"))
    new = compare(probabilities(0.6, 0.4), probabilities(0.7, 0.2, 0.1))
    assert (new.agrees, new.label) == (False, "cat")
    assert new.difference == pytest.approx(0.7)
    _, compare = versions(("bird", "cat", "dog"), ("cat", "dog"))
    assert compare(probabilities(0.7, 0.2, 0.1), probabilities(0.6, 0.4)).difference == pytest.approx(0.7)


def test_versions_without_a_common_label_cannot_be_compared():
    with pytest.raises(Incomparable, match="no label in common"):
        versions(("cat", "dog"), ("bird",))


def test_an_answer_that_is_no_number_is_no_finite_difference():
    _, compare = versions(("cat", "dog"), ("cat", "dog"))
    assert np.isnan(compare(probabilities(0.9, 0.1), probabilities(np.nan, np.nan)).difference)
