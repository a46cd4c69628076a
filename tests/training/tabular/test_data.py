import numpy as np
import pytest

from training.data import DataError
from training.tabular.data import load_table


def write(path, lines):
    path.write_text("\n".join(lines) + "\n")
    return str(path)


def people(count=60, seed=0):
    random = np.random.default_rng(seed)
    lines = ["height,weight,kind"]
    for _ in range(count):
        height = random.normal(170, 10)
        lines.append(f"{height:.2f},{height / 2 + random.normal(0, 3):.2f},{'tall' if height > 170 else 'small'}")
    return lines


def test_the_default_is_scikit_learns():
    data = load_table("breast-cancer", None)
    assert (len(data.columns), data.classes, data.target) == (30, ("benign", "malignant"), "diagnosis")
    assert len(data.train) + len(data.validation) + len(data.test) == 569
    assert "mean radius" in data.columns


def test_a_csv_with_classes(tmp_path):
    data = load_table(write(tmp_path / "people.csv", people()), "kind")
    assert (data.name, data.kind, data.columns, data.classes) == (
        "people", "classification", ("height", "weight"), ("small", "tall"),
    )  # fmt: skip
    for part in (data.train, data.validation, data.test):
        np.testing.assert_array_equal(part.targets, part.rows[:, 0] > 170)
    assert load_table(write(tmp_path / "people.csv", people()), "kind").fingerprint == data.fingerprint


def test_numeric_targets_with_many_values_are_regression_unless_a_kind_is_chosen(tmp_path):
    lines = [line.rpartition(",")[0] for line in people()]
    data = load_table(write(tmp_path / "x.csv", lines), "weight")
    assert (data.kind, data.classes, data.columns) == ("regression", (), ("height",))
    assert data.train.targets.dtype == np.float32
    few = ["a,b", *(f"{row},{row % 3}" for row in range(40))]
    assert load_table(write(tmp_path / "y.csv", few), "b").classes == ("0", "1", "2")
    assert load_table(write(tmp_path / "y.csv", few), "b", kind="regression").kind == "regression"


def test_missing_values_are_nan(tmp_path):
    lines = people()
    lines[3] = ",80,tall"
    data = load_table(write(tmp_path / "x.csv", lines), "kind")
    assert sum(np.isnan(part.rows).sum() for part in (data.train, data.validation, data.test)) == 1


@pytest.mark.parametrize(
    ("lines", "target", "message"),
    [
        (people(), None, r"has the columns height, weight, kind: choose the one to predict with --target"),
        (people(), "age", "choose the one to predict with --target"),
        (["a,b", "x,1", "y,0", "z,1"], "b", "row 0: the column 'a' holds 'x', which is no number"),
        (["a,b", "1,u", "2,", "3,v"], "b", "row 1: the target 'b' is missing"),
        (["a,b", "1,u", "2,u"], "b", "has 1 value"),
        (["a,b", "1,u", "2,v"], "b", "too few rows"),
        (["b", "u", "v"], "b", "no column beside the target"),
    ],
)
def test_data_that_cannot_be_learned_from_is_refused_with_the_reason(tmp_path, lines, target, message):
    with pytest.raises(DataError, match=message):
        load_table(write(tmp_path / "x.csv", lines), target)


def test_paths_that_are_wrong(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        load_table(str(tmp_path / "gone.csv"), "a")
    (tmp_path / "x.xls").write_text("")
    with pytest.raises(DataError, match=r"ends in '\.xls'"):
        load_table(str(tmp_path / "x.xls"), "a")


def test_spaces_around_names_are_not_part_of_them(tmp_path):
    lines = people()
    lines[0] = "height , weight, kind"
    assert load_table(write(tmp_path / "x.csv", lines), "kind").columns == ("height", "weight")
    lines[0] = "height,height ,kind"
    with pytest.raises(DataError, match="two columns have the same name"):
        load_table(write(tmp_path / "y.csv", lines), "kind")


def test_a_column_without_a_number_in_training_is_refused(tmp_path):
    lines = people()
    lines = [lines[0] + ",rare", *(f"{line}," for line in lines[1:])]
    data = load_table(write(tmp_path / "x.csv", people()), "kind")
    height = data.test.rows[0, 0]
    row = next(row for row, line in enumerate(lines[1:], 1) if np.float32(line.split(",")[0]) == height)
    lines[row] += "5"
    with pytest.raises(DataError, match="'rare' holds too few numbers"):
        load_table(write(tmp_path / "y.csv", lines), "kind")
