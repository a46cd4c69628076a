import pytest

from training.data.dataset import DataError
from training.data.recognise import Source
from training.tabular.target import recognise_table


@pytest.fixture
def write(tmp_path):
    """A table of 200 rows: a column is written by a function of the row's number."""

    def write_table(target=None, **columns):
        path = tmp_path / "t.csv"
        rows = [",".join(str(write(row)) for write in columns.values()) for row in range(200)]
        path.write_text("\n".join([",".join(columns), *rows]))
        return Source(str(path), target=target)

    return write_table


def ids(row):
    return f"row {row}"


def half(row):
    return row % 2


def third(row):
    return "abc"[row % 3]


def number(row):
    return row * 7919 % 1000 / 8


def test_a_usual_name_that_fits_its_values_is_a_guess(write):
    found = recognise_table(write(Price=number, other=half))
    assert (found.options, found.sure) == ({"target": "Price"}, False)
    assert recognise_table(write(species=third, label=half)).options == {"target": "label"}
    assert recognise_table(write(a=number, y=half)).options == {"target": "y"}


def test_a_name_of_ids_and_a_dimension_are_no_target(write):
    with pytest.raises(DataError, match=r"name the one to predict with --target\. Plausible: 'z' \(a number\), 'x' \("):
        recognise_table(write(label=ids, x=number, y=number, z=number))
    assert recognise_table(write(x=number, y=number, price=number)).options == {"target": "price"}


def test_two_usual_names_or_none_are_asked_about_with_what_they_would_be_predicted_as(write):
    with pytest.raises(DataError, match=r"Plausible: 'class' \(3 classes\), 'survived' \(2 classes\)\.$"):
        recognise_table(write(name=ids, survived=half, **{"class": third}))
    with pytest.raises(DataError, match=r"Plausible: 'a' \(a number\), 'b' \(2 classes\)\.$"):
        recognise_table(write(a=number, b=half, name=ids))


def test_a_target_that_is_not_there_is_said_with_the_nearest_name(write):
    for given, near in (("SURVIVED", "survived"), ("survive", "survived")):
        with pytest.raises(DataError, match=f"has no column '{given}': did you mean {near}\\? It has the columns "):
            recognise_table(write(given, survived=half, age=number))
    with pytest.raises(DataError, match=r"has no column 'xyz'\. It has the columns survived, age\."):
        recognise_table(write("xyz", survived=half, age=number))
    assert recognise_table(write("age", survived=half, age=number)).sure
