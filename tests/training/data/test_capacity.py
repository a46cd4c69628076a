import numpy as np
import pytest

from tests.training.tabular.test_data import load
from training.data import tables
from training.data.dataset import DataError
from training.text.data import load_texts


@pytest.fixture
def memory(monkeypatch):
    def give(size):
        monkeypatch.setattr(tables, "available_memory", lambda: tables._LIBRARIES + size)

    return give


def test_there_is_memory_here_and_a_limit_of_the_process_counts(monkeypatch):
    assert tables.available_memory() > 10**8
    monkeypatch.setattr(tables.resource, "getrlimit", lambda _: (12345, 99999))
    assert tables.available_memory() == 12345


def test_a_table_that_does_not_fit_is_refused_with_the_rows_that_do(tmp_path, memory):
    lines = ["a,b,c", *(f"{row},{row % 7 / 2},{row % 2}" for row in range(1000))]
    (tmp_path / "x.csv").write_text("\n".join(lines) + "\n")
    source = str(tmp_path / "x.csv")
    memory(100_000)
    with pytest.raises(DataError, match=r"x\.csv: 1,000 rows take about .*: --limit 710 trains on so many of them"):
        load(source, "c", columns=("a", "b"))
    data = load(source, "c", columns=("a", "b"), limit=500)
    assert len(data.train) + len(data.validation) + len(data.test) == 500
    rows = np.concatenate([part.rows for part in (data.train, data.validation, data.test)])
    assert rows[:, 0].max() > 900  # drawn from all of them
    np.testing.assert_array_equal(rows[:, 0] % 7 / 2, rows[:, 1])


def test_rows_that_were_drawn_are_named_by_their_own_lines(tmp_path):
    lines = ["a,b,c", *(f"{row},{'x' if row == 400 else 1},{row % 2}" for row in range(500))]
    (tmp_path / "x.csv").write_text("\n".join(lines) + "\n")
    with pytest.raises(DataError, match=r"x\.csv:402: column 'b'"):
        load(str(tmp_path / "x.csv"), "c", limit=499, columns=("a", "b"))


def test_texts_that_do_not_fit_are_refused_before_they_are_read(tmp_path, memory):
    lines = ["text,label", *(f"word {row} {'x' * 90},{row % 2}" for row in range(500))]
    (tmp_path / "x.csv").write_text("\n".join(lines) + "\n")
    memory(200_000)
    with pytest.raises(DataError, match=r"500 texts take about .*: --limit 54 trains on so many"):
        load_texts(str(tmp_path / "x.csv"))
    assert len(load_texts(str(tmp_path / "x.csv"), limit=50).train) == 50
