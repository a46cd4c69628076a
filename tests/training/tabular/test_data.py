import numpy as np
import pytest

from training.data.dataset import DataError
from training.options import FitOptions
from training.tabular.data import load_table
from training.tabular.options import TabularOptions
from training.tabular.recipe import TabularRecipe


def load(source, target=None, seed=None, **options):
    return load_table(TabularOptions(data=source, target=target, fit=FitOptions(seed=seed), **options))


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
    data = load("breast-cancer", None)
    assert (len(data.columns), data.classes, data.target) == (30, ("benign", "malignant"), "diagnosis")
    assert len(data.train) + len(data.validation) + len(data.test) == 569
    assert "mean radius" in data.columns


def test_a_csv_with_classes(tmp_path):
    data = load(write(tmp_path / "people.csv", people()), "kind")
    assert (data.name, data.kind, data.columns, data.classes) == (
        "people", "classification", ("height", "weight"), ("small", "tall"),
    )  # fmt: skip
    for part in (data.train, data.validation, data.test):
        np.testing.assert_array_equal(part.targets, part.rows[:, 0] > 170)
    assert load(write(tmp_path / "people.csv", people()), "kind").fingerprint == data.fingerprint
    # Other splits of the same rows are other data: what is trained on one is measured on another.
    assert load(str(tmp_path / "people.csv"), "kind", seed=1).fingerprint != data.fingerprint


def test_numeric_targets_with_many_values_are_regression_unless_a_kind_is_chosen(tmp_path):
    lines = [line.rpartition(",")[0] for line in people()]
    data = load(write(tmp_path / "x.csv", lines), "weight")
    assert (data.kind, data.classes, data.columns) == ("regression", (), ("height",))
    assert data.train.targets.dtype == np.float32
    few = ["a,b", *(f"{row / 2},{row % 3}" for row in range(40))]
    assert load(write(tmp_path / "y.csv", few), "b").classes == ("0", "1", "2")
    assert load(write(tmp_path / "y.csv", few), "b", kind="regression").kind == "regression"


def test_missing_values_are_nan(tmp_path):
    lines = people()
    lines[3] = ",80,tall"
    data = load(write(tmp_path / "x.csv", lines), "kind")
    assert sum(np.isnan(part.rows).sum() for part in (data.train, data.validation, data.test)) == 1


@pytest.mark.parametrize(
    ("lines", "target", "message"),
    [
        (people(), None, r"3 columns; name the one to predict with --target\. Plausible: "),
        (people(), "age", r"has no column 'age'\. It has the columns height, weight, kind\.$"),
        (people(), "wieght", r"has no column 'wieght': did you mean weight\?"),
        (["a,b", "1,u", "2,", "3,v"], "b", r"x.csv:3: the target 'b' is missing"),
        (["a,b", "1,u", "2,u"], "b", "has 1 value"),
        (["a,b", "1,u", "2,v"], "b", "too few items"),
        (["b", "u", "v"], "b", "no column beside the target"),
        (["1,2", "3,4"], "b", "the first line holds values"),
        (["a,a ", "3,4"], "a", "two columns have the same name"),
    ],
)
def test_data_that_cannot_be_learned_from_is_refused_with_the_reason(tmp_path, lines, target, message):
    with pytest.raises(DataError, match=message):
        load(write(tmp_path / "x.csv", lines), target)


def test_one_test_row_measures_no_regression(tmp_path):
    with pytest.raises(DataError, match="R² needs two test rows or more, and there is one"):
        load(write(tmp_path / "x.csv", ["a,b", "1,2.5", "2,3.5", "3,4.5", "4,5.5"]), "b", kind="regression")


def test_cross_validation_that_is_not_possible_is_refused(tmp_path):
    data = load(write(tmp_path / "x.csv", people()), "kind")
    with pytest.raises(ValueError, match="--cross-validate 99: two classes need rows for it, and one of them 99"):
        TabularRecipe().choose(TabularOptions(data="x", cross_validate=99), data)


def customers(rows=200, missing="?"):
    """A table as people export it from Excel in Korea: an id, words, dates, percentages, decimal commas."""
    random = np.random.default_rng(0)
    lines = ["고객번호;도시;가입일;흡연;할인율;나이;메모;국가;이탈"]
    for row in range(rows):
        age = random.integers(18, 80)
        cells = (
            1000 + 7 * row, random.choice(["서울", "부산", "서울 "]), f"2024.{row % 12 + 1:02}.{row % 28 + 1:02}",
            random.choice(["예", "아니오"]), f"{random.uniform(0, 50):.1f}%".replace(".", ","),
            missing if row % 10 == 0 else age, f"메모 {row}", "KR", "이탈" if age > 50 else "유지",
        )  # fmt: skip
        lines.append(";".join(map(str, cells)))
    lines[7] = lines[7].replace("부산", "제주").replace("서울", "제주")
    return lines


def test_a_messy_table_is_understood(tmp_path):
    (tmp_path / "x.csv").write_text("\n".join(customers()), encoding="cp949")
    data = load(str(tmp_path / "x.csv"), "이탈")
    cards = {card.name: card for card in data.layout}
    assert {name: card.kind for name, card in cards.items()} == {
        "도시": "category", "가입일": "date", "흡연": "boolean", "할인율": "number", "나이": "number",
    }  # fmt: skip
    assert cards["도시"].values == ("서울", "부산")  # spaces do not make another word; a single row makes none
    assert cards["흡연"].values == ("아니오", "예")
    assert (cards["할인율"].unit, cards["할인율"].decimal) == ("%", ",")
    assert cards["나이"].missing_words == ("?",)
    assert cards["가입일"].origin.isoformat() == "2024-01-01"
    assert data.ignored == ("고객번호", "메모", "국가", "이탈")
    said = "\n".join(data.inspection.notes)
    assert "read as cp949 (found" in said
    assert "separated by semicolons" in said
    assert "'고객번호' numbers the rows" in said
    assert "'국가' is always 'KR'" in said
    rows = np.concatenate([part.rows for part in (data.train, data.validation, data.test)])
    assert np.nanmin(rows[:, 0]) == -1
    assert 0 <= np.nanmin(rows[:, 3]) <= np.nanmax(rows[:, 3]) <= 50
    assert np.isnan(rows[:, 4]).sum() == 20

    chosen = load(str(tmp_path / "x.csv"), "이탈", columns=("고객번호", "나이"), drop=("나이",))
    assert chosen.columns == ("고객번호",)
    with pytest.raises(DataError, match=r"has no column nothing, 고객번; it has .*\. 고객번: did you mean 고객번호\?"):
        load(str(tmp_path / "x.csv"), "이탈", columns=("nothing",), drop=("고객번",))


def test_a_target_that_hardly_repeats_is_refused(tmp_path):
    lines = ["name,age", *(f"n{row % 60},{row % 7}" for row in range(100))]
    with pytest.raises(DataError, match=r"'name' hardly repeats \(60 different values in 100 rows\), .*with --target"):
        load(write(tmp_path / "x.csv", lines), "name")


def test_unusable_rows_are_named_together_and_can_be_dropped(tmp_path):
    lines = people()
    lines[2] = "tall,80,tall"
    lines[4] = "170,80,"
    lines[9] = "170,80"
    source = write(tmp_path / "x.csv", lines)
    with pytest.raises(DataError) as caught:
        load(source, "kind")
    said = str(caught.value)
    assert "3 unusable items" in said
    assert "x.csv:3: column 'height': 'tall' is not a number" in said
    assert "x.csv:5: the target 'kind' is missing" in said
    assert "x.csv:10: has 2 cells, not 3" in said
    assert "--bad drop" in said
    data = load(source, "kind", bad="drop")
    assert len(data.train) + len(data.validation) + len(data.test) == 57
    assert "x.csv:10" in data.inspection.dropped[0]


def test_a_class_of_one_is_trained_on_and_imbalance_is_pointed_out(tmp_path):
    lines = [line.replace("small", "tall") for line in people()]
    lines[1] = lines[1].replace("tall", "small")
    data = load(write(tmp_path / "x.csv", lines), "kind")
    assert data.classes == ("small", "tall")
    assert (data.train.targets == 0).sum() == 1
    said = "\n".join(data.inspection.warnings)
    assert "'small': it is trained on, and nothing measures it" in said
    assert "98% of the rows are 'tall'" in said


def test_ids_codes_days_and_splits_of_their_own(tmp_path):
    header = "PassengerId,store_id,day,amount,y"

    def rows(start, count):
        numbers = range(start, start + count)
        return [header, *(f'{9 * i},{i % 4},202403{i % 28 + 1:02},"1,{200 + i}.5",{"ab"[i % 2]}' for i in numbers)]

    write(tmp_path / "train.csv", rows(0, 60))
    write(tmp_path / "test.csv", rows(60, 20))
    data = load(str(tmp_path), "y")
    assert [(card.name, card.kind) for card in data.layout] == [
        ("store_id", "category"), ("day", "date"), ("amount", "number"),
    ]  # fmt: skip
    assert (len(data.test), len(data.train) + len(data.validation)) == (20, 60)
    assert data.test.rows[0, 2] == 1260.5
    write(tmp_path / "test.csv", [line.rpartition(",")[0] for line in rows(60, 20)])
    assert "has no 'y'" in load(str(tmp_path), "y").inspection.notes[0]


def test_paths_that_are_wrong(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        load(str(tmp_path / "gone.csv"), "a")
    (tmp_path / "x.xls").write_text("")
    with pytest.raises(DataError, match=r"ends in '\.xls'"):
        load(str(tmp_path / "x.xls"), "a")


def test_spaces_around_names_are_not_part_of_them(tmp_path):
    lines = people()
    lines[0] = "height , weight, kind"
    assert load(write(tmp_path / "x.csv", lines), "kind").columns == ("height", "weight")
    lines[0] = "height,height ,kind"
    with pytest.raises(DataError, match="two columns have the same name"):
        load(write(tmp_path / "y.csv", lines), "kind")
