from quartet.offline.tables import format_table, to_cell


def test_columns_line_up_also_where_characters_are_wide():
    rows = [
        {"file": "가.jpg", "label": "고양이"},
        {"file": "bb.jpg", "label": "dog", "error": ""},
    ]
    assert list(format_table(rows)) == [
        "file    label",
        "가.jpg  고양이",
        "bb.jpg  dog",
    ]
    assert list(format_table([])) == []


def test_a_table_that_is_too_wide_is_wrapped():
    rows = [
        {"model": "one-and-only", "figures": "accuracy 0.91, macro_f1 0.8", "description": "texts of a few topics"},
        {"model": "two", "figures": "mse 0.1", "description": "images"},
    ]
    assert all(len(line) <= 30 for line in format_table(rows, 30))
    assert list(format_table(rows, 30, below="description")) == [
        "model         figures",
        "one-and-only  accuracy 0.91,",
        "              macro_f1 0.8",
        "    texts of a few topics",
        "two           mse 0.1",
        "    images",
    ]
    assert list(format_table(rows, 100, below="description")) == list(format_table(rows))


def test_fields_of_results_become_short():
    labels = [{"label": name, "index": 0, "probability": 0.25} for name in "abcd"]
    assert to_cell("labels", labels) == "a 0.25, b 0.25, c 0.25, … 1 more"
    assert to_cell("latents", [0.5] * 32) == "0.5, 0.5, 0.5, 0.5, … 28 more"
    assert to_cell("counts", {"RBC": 12}) == "RBC 12"
    assert to_cell("words", [{"word": "oil", "start": 0, "weight": 1.5}]) == "oil 1.50"
    assert to_cell("png", "A" * 400) == "PNG, 300 bytes"
    assert to_cell("text", "one\n two") == "one two"
    assert [to_cell("", value) for value in (None, True, 3, 0.123456)] == ["", "yes", "3", "0.1235"]
