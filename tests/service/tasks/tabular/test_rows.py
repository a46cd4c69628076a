from datetime import date

import numpy as np
import pytest

from service.errors import BodyTooLarge, InvalidRequest
from service.tasks.tabular.columns import ColumnCard
from service.tasks.tabular.rows import Columns, from_csv, from_records


def numbers(*names):
    return Columns([ColumnCard(name=name, mean=0) for name in names])


COLUMNS = numbers("mean radius", "mean texture", "area")
AREA = numbers("area")


def record(radius=1.0, texture=2.0, area=3.0):
    return {"area": area, "mean radius": radius, "mean texture": texture}


def test_columns_may_come_in_any_order_and_null_is_missing():
    rows = from_records([record(), record(texture=None, area=7)], COLUMNS, 100)
    assert rows.dtype == np.float32
    np.testing.assert_array_equal(rows, [[1, 2, 3], [1, np.nan, 7]])


def test_csv_gives_the_same_rows():
    text = 'area,"mean radius",mean texture\n3,1,2\n7, 1 ,\n\n'
    np.testing.assert_array_equal(from_csv(text, COLUMNS, 100), [[1, 2, 3], [1, np.nan, 7]])


@pytest.mark.parametrize(
    ("rows", "detail", "index"),
    [
        (None, 'must be {"rows"', None),
        ([], 'must be {"rows"', None),
        ([record(), 5], "Row 1 must be an object", 1),
        ([{"area": 1.0}], "Row 0 lacks the columns 'mean radius', 'mean texture'; the columns are mean radius,", 0),
        ([record() | {"colour": 1}], "Row 0 has the unknown column 'colour'", 0),
        ([record(), record(texture="rough")], "Row 1, column 'mean texture': 'rough' is not a number", 1),
        ([record(area=True)], "Row 0, column 'area': True is not a number", 0),
        ([record(area=float("nan"))], "Row 0, column 'area': nan is not a finite float32", 0),
        ([record(area=float("inf"))], "Row 0, column 'area': inf is not a finite float32", 0),
        ([record(area=1e300)], "Row 0, column 'area': 1e+300 is not a finite float32", 0),
    ],
)
def test_errors_name_row_and_column(rows, detail, index):
    with pytest.raises(InvalidRequest) as caught:
        from_records(rows, COLUMNS, 100)
    assert detail in caught.value.detail
    assert caught.value.index == index


@pytest.mark.parametrize(
    ("text", "detail"),
    [
        ("", "a line of column names"),
        ("area,mean radius,mean texture\n", "at least one row"),
        ("area,mean radius\n1,2\n", "The CSV lacks the column 'mean texture'"),
        ("area,mean radius,mean texture,x\n1,2,3,4\n", "The CSV has the unknown column 'x'"),
        ("area,area,mean radius,mean texture\n1,2,3,4\n", "The CSV has a column twice"),
        ("area,mean radius,mean texture\n1,2,3\n1,2\n", "Row 1 has 2 cells, not 3"),
        ("area,mean radius,mean texture\n1,2,wide\n", "Row 0, column 'mean texture': 'wide' is not a number"),
        ("area,mean radius,mean texture\n1,2,nan\n", "Row 0, column 'mean texture': 'nan' is not a number"),
        ('area,mean radius,mean texture\n"1,2,3\n' + "4,5,6\n" * 40_000, "The CSV cannot be read at line"),
        ("area,mean radius,mean texture\n1,-inf,3\n", "Row 0, column 'mean radius': '-inf' is not a number"),
        (
            "area,mean radius,mean texture\n1,1e999,3\n",
            "Row 0, column 'mean radius': inf is not a finite float32",
        ),
    ],
)
def test_invalid_csv_is_refused_with_the_location(text, detail):
    with pytest.raises(InvalidRequest) as caught:
        from_csv(text, COLUMNS, 100)
    assert detail in caught.value.detail


def test_everything_that_is_wrong_is_listed():
    csv = "area,mean radius,mean texture\n1,2,wide\n1,2\n1,2,3\nlong,2,deep\n"
    records = [record(texture="wide"), {"area": 1}, record(), record(area="long", texture="deep")]
    for read, rows in ((from_csv, csv), (from_records, records)):
        with pytest.raises(InvalidRequest) as caught:
            read(rows, COLUMNS, 100)
        assert caught.value.detail.endswith("null stands for a missing one (and 3 other errors).")
        assert caught.value.index == 0
        assert [fault.pointer for fault in caught.value.faults] == [
            *("#/rows/0/mean%20texture", "#/rows/1", "#/rows/3/mean%20texture", "#/rows/3/area"),
        ]


@pytest.mark.parametrize(
    ("cell", "value"),
    [("7", 7), ("+7", 7), ("-0.5", -0.5), (".5", 0.5), ("5.", 5), ("1e3", 1000), ("1.5E-2", 0.015), (" 007 ", 7)],
)
def test_a_number_in_a_cell(cell, value):
    np.testing.assert_array_equal(from_csv(f"area\n{cell}\n", AREA, 1), np.float32([[value]]))


@pytest.mark.parametrize(
    "cell",
    ["1_0.5", "\u0661\u0662", "\uff11", "nan", "NaN", "inf", "-Infinity", "0x10", "1e", ".", "e5", "--1", "1 2", "1,0"],
)
def test_a_cell_that_holds_no_number(cell):
    with pytest.raises(InvalidRequest, match="is not a number") as caught:
        from_csv(f'area\n"{cell}"\n', AREA, 1)
    assert repr(cell) in caught.value.detail


def test_what_was_sent_is_quoted_in_part():
    long = "x" * 60_000
    for rows in ([{"area": long}], [{"area": 10**4000}], [{"area": 1.0, long: 1.0}]):
        with pytest.raises(InvalidRequest) as caught:
            from_records(rows, AREA, 1)
        assert len(caught.value.detail) < 250
    for text in (f"area\n{long}\n", f"area,{long}\n1,2\n"):
        with pytest.raises(InvalidRequest) as caught:
            from_csv(text, AREA, 1)
        assert len(caught.value.detail) < 250


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lines_may_end_as_any_system_ends_them(end):
    text = end.join(("area,mean radius,mean texture", "3,1,2", "7,1,"))
    np.testing.assert_array_equal(from_csv(text, COLUMNS, 100), [[1, 2, 3], [1, np.nan, 7]])


def test_an_empty_line_of_a_single_column_is_a_missing_value():
    np.testing.assert_array_equal(from_csv("area\n1\n\n3\n\n", AREA, 100), [[1], [np.nan], [3]])


def test_more_rows_than_are_accepted_are_not_read():
    with pytest.raises(BodyTooLarge, match="more rows than the 2"):
        from_csv("area\n1\n2\nthree\n", AREA, 2)
    with pytest.raises(BodyTooLarge, match="more rows than the 2"):
        from_records([{"area": 1}] * 2 + ["three"], AREA, 2)


MESSY = [
    ColumnCard(name="city", kind="category", values=("Seoul", "Busan"), missing_words=("?",)),
    ColumnCard(name="smoker", kind="boolean", values=("no", "yes"), mean=0.5),
    ColumnCard(name="joined", kind="date", origin=date(2024, 1, 1), date_format="%d.%m.%Y", mean=3),
    ColumnCard(name="share", mean=0, unit="%", decimal=",", group="."),
    ColumnCard(name="age", mean=40, missing_words=("-", "NA")),
]


def messy():
    return Columns(MESSY, ignored=("id",))


def test_the_words_of_a_table_become_the_numbers_of_its_graph():
    rows = from_records(
        [
            {"city": "Seoul", "smoker": "yes", "joined": "03.01.2024", "share": "1.012,5 %", "age": 30, "id": 7},
            {"city": " busan", "smoker": False, "joined": "2024-01-02T12:00", "share": 12.5, "age": "NA"},
            {"city": "Rome", "smoker": None, "joined": None, "share": None, "age": None},
            {"city": "?", "smoker": "No", "joined": "2024-01-01", "share": "0%", "age": 1},
        ],
        messy(),
        10,
    )
    nan = np.nan
    np.testing.assert_array_equal(
        rows, [[0, 1, 2, 1012.5, 30], [1, 0, 1.5, 12.5, nan], [-1, nan, nan, nan, nan], [nan, 0, 0, 0, 1]]
    )
    assert [messy().unknown(row) for row in rows] == [[], [], ["city"], []]


def test_a_row_is_written_in_the_words_of_its_table():
    cards = MESSY
    rows = np.float32([[0, 1, 2, 12.5, 30], [-1, 0, 1.5, 3, np.nan], [np.nan] * 5])
    written = [{card.name: card.write(float(v)) for card, v in zip(cards, row, strict=True)} for row in rows]
    assert written[0] == {"city": "Seoul", "smoker": "yes", "joined": "03.01.2024", "share": "12,5%", "age": 30.0}
    assert written[1]["city"] == "(unknown)"
    assert cards[2].model_copy(update={"date_format": ""}).write(1.5) == "2024-01-02T12:00:00"
    again = from_records(written, messy(), 5)
    np.testing.assert_array_equal(again[[0, 2]], rows[[0, 2]])
    assert messy().unknown(again[1]) == ["city"]


def test_csv_may_be_written_as_the_table_was():
    text = "id;city;smoker;joined;share;age\n1;Seoul;yes;03.01.2024;12,5%;30\n2;;no;;;-\n"
    np.testing.assert_array_equal(
        from_csv(text, messy(), 10), [[0, 1, 2, 12.5, 30], [np.nan, 0, np.nan, np.nan, np.nan]]
    )


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        ("city", True, "True is not a text, such as 'Seoul'"),
        ("smoker", "maybe", "'maybe' is neither 'yes' nor 'no'"),
        ("joined", "31.02.2024", "'31.02.2024' is not a date, such as '04.01.2024'"),
        ("joined", "0001-01-01T00:00+14:00", "'0001-01-01T00:00+14:00' is not a date"),
        ("share", "many", "'many' is not a number"),
        ("age", "old", "'old' is not a number"),
    ],
)
def test_words_that_a_column_cannot_have_are_named(column, value, said):
    row = {"city": "Seoul", "smoker": "yes", "joined": "2024-01-01", "share": 1, "age": 1} | {column: value}
    with pytest.raises(InvalidRequest) as caught:
        from_records([row], messy(), 10)
    assert f"Row 0, column {column!r}: {said}" in caught.value.detail


def test_numbers_may_be_in_strings_beside_columns_of_words():
    rows = Columns([ColumnCard(name="age"), ColumnCard(name="city", kind="category", values=("Seoul",))])
    np.testing.assert_array_equal(from_records([{"age": "8", "city": "Seoul"}], rows, 9), [[8, 0]])
    with pytest.raises(InvalidRequest, match="'8' is not a number"):
        from_records([{"area": "8"}], AREA, 9)


CAREFUL = Columns(
    [
        ColumnCard(name="age", integer=True, required=True),
        ColumnCard(name="deck", kind="category", values=("A", "a", "b"), closed=True),
        ColumnCard(name="alone", kind="boolean", values=("false", "true"), required=True),
    ]
)


def test_a_column_may_take_integers_alone_need_a_value_and_know_all_words():
    rows = [{"age": 30, "deck": "A", "alone": True}, {"age": 31.0, "deck": None, "alone": "False"}]
    np.testing.assert_array_equal(from_records(rows, CAREFUL, 9), [[30, 0, 1], [31, np.nan, 0]])
    np.testing.assert_array_equal(
        from_csv("age,deck,alone\n30, a ,true\n-7,B,false\n", CAREFUL, 9), [[30, 1, 1], [-7, 2, 0]]
    )


@pytest.mark.parametrize(
    ("changed", "detail"),
    [
        ({"age": 30.5}, "column 'age': 30.5 is not an integer from -16777216 to 16777216"),
        ({"age": 2**24 + 1}, "column 'age': 16777217 is not an integer from"),
        ({"age": None}, "column 'age': a value is missing, which the model cannot take; send one, such as 0"),
        ({"age": "x"}, "column 'age': 'x' is not a number."),
        ({"deck": "c"}, "column 'deck': the model does not know 'c'; it knows 'A', 'a', 'b'"),
        ({"alone": None}, "column 'alone': a value is missing, which the model cannot take; send one, such as 'false'"),
    ],
)
def test_what_such_a_column_does_not_take_is_an_error(changed, detail):
    with pytest.raises(InvalidRequest) as caught:
        from_records([{"age": 30, "deck": "a", "alone": False} | changed], CAREFUL, 9)
    assert detail in caught.value.detail
