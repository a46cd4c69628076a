import io

import pytest
from rich.console import Console

from course.study import mean_and_deviation, measure_rows


def test_rows_are_kept_and_measured_again_only_with_another_origin(tmp_path):
    measured = []

    def measure(name):
        def run():
            measured.append(name)
            return {"accuracy": [0.5, 1.0]}

        return run

    console = Console(file=io.StringIO())
    first = measure_rows(tmp_path, {"seeds": (0, 2)}, {"a": measure("a")}, console)
    rows = measure_rows(tmp_path, {"seeds": (0, 2)}, {"a": measure("a"), "b": measure("b")}, console)
    assert (list(rows), rows["a"], measured) == (["a", "b"], first["a"], ["a", "b"])
    measure_rows(tmp_path, {"seeds": (0, 3)}, {"a": measure("a")}, console)
    assert measured == ["a", "b", "a"]


def test_a_row_that_fails_leaves_those_before_it(tmp_path):
    console = Console(file=io.StringIO())

    def fail():
        raise FloatingPointError

    with pytest.raises(FloatingPointError):
        measure_rows(tmp_path, {}, {"a": lambda: {"x": 1}, "b": fail}, console)
    rows = measure_rows(tmp_path, {}, {"a": lambda: pytest.fail("measured again"), "b": lambda: {"x": 2}}, console)
    assert rows == {"a": {"x": 1}, "b": {"x": 2}}


def test_the_deviation_of_one_value_is_0():
    assert mean_and_deviation([0.25]) == "0.2500 ± 0.0000"
    assert mean_and_deviation([0.25, 0.75]) == "0.5000 ± 0.3536"
