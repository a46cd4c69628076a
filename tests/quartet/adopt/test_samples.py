from pathlib import Path

import numpy as np
import pytest

from quartet.adopt.graph import CannotAdopt, RunFailed, Value
from quartet.adopt.samples import Samples, check, draw, read

X = Value("x", "float32", ("batch", 4))


def write(folder: Path, **arrays) -> Path:
    np.savez(folder / "samples.npz", **arrays)
    return folder / "samples.npz"


def test_an_array_is_a_call_several_calls_or_a_multiple_of_a_fixed_axis(tmp_path: Path):
    rows = np.arange(24, dtype=np.float32).reshape(6, 4)
    assert len(read(write(tmp_path, x=rows), [X]).calls) == 1
    assert len(read(write(tmp_path, x=rows[:, None]), [X]).calls) == 6
    three = read(write(tmp_path, x=rows), [Value("x", "float32", (3, 4))])
    assert [call["x"].shape for call in three.calls] == [(3, 4), (3, 4)]
    scalars = read(write(tmp_path, s=np.arange(3)), [Value("s", "int64", ())])
    assert [int(call["s"]) for call in scalars.calls] == [0, 1, 2]


def test_values_are_cast_where_that_loses_nothing(tmp_path: Path):
    path = write(tmp_path, x=np.arange(4), s=np.array(["a", "b"]))
    samples = read(path, [Value("x", "int32", ("n",)), Value("s", "str", ("n",))])
    assert samples.calls[0]["x"].dtype == np.int32
    with pytest.raises(CannotAdopt, match="are int64; the graph takes str"):
        read(path, [Value("x", "str", ("n",)), Value("s", "str", ("n",))])
    with pytest.raises(CannotAdopt, match="are int64; the graph takes int8"):
        read(write(tmp_path, x=np.array([300])), [Value("x", "int8", ("n",))])


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"y": np.zeros(4)}, "no input 'y'"),
        ({}, "no array for the input 'x'"),
        ({"x": np.zeros((2, 3), np.float32)}, r"have the shape \[2, 3\]"),
        ({"x": np.zeros((0, 2, 4), np.float32)}, "empty"),
    ],
)
def test_samples_that_do_not_fit(arrays, words: str, tmp_path: Path):
    with pytest.raises(CannotAdopt, match=words):
        read(write(tmp_path, **arrays), [X])


def test_files_that_are_no_samples(tmp_path: Path):
    for content in (None, b"", b"hello"):
        if content is not None:
            (tmp_path / "x.npz").write_bytes(content)
        with pytest.raises(CannotAdopt, match="cannot be read as npz"):
            read(tmp_path / "x.npz", [X])
    two = [X, Value("z", "float32", (4,))]
    with pytest.raises(CannotAdopt, match="different numbers of calls: x 3, z 2"):
        read(write(tmp_path, x=np.zeros((3, 2, 4), np.float32), z=np.zeros((2, 4), np.float32)), two)


def test_what_clients_may_not_send_is_no_sample():
    samples = Samples(({"x": np.full((2, 4), 5, np.float32)},), "given")
    check(samples, [X], {"x": (0, 5)}, 4)
    with pytest.raises(CannotAdopt, match="outside of 0 to 1"):
        check(samples, [X], {"x": (0, 1)}, 4)
    with pytest.raises(CannotAdopt, match="raise --max-length"):
        check(samples, [Value("x", "float32", ("batch", "time"))], {}, 3)


def test_random_samples_lie_in_their_range_and_are_the_same_each_time():
    inputs = [
        X, Value("ids", "int64", ("batch", "length")), Value("word", "str", ("batch", 1)), Value("yes", "bool", (2,)),
        Value("tiny", "int8", (50,)), Value("half", "float16", ()),
    ]  # fmt: skip
    one, two = (draw(inputs, {"x": (-2, -1), "ids": (5, 9)}, lambda call: [call["x"]], 2048) for _ in range(2))
    for name, array in one.calls[0].items():
        assert (array == two.calls[0][name]).all()
    first = one.calls[0]
    assert first["x"].dtype == np.float32
    assert ((first["x"] >= -2) & (first["x"] <= -1)).all()
    assert set(first["ids"].ravel()) == {5, 6, 7, 8, 9}
    assert first["ids"].shape == (2, 64)
    assert first["tiny"].min() < 0
    assert first["half"].shape == ()
    assert str(first["word"][0, 0]).isdigit()


def test_sizes_and_integers_are_tried_until_the_graph_runs():
    tried = []

    def run(call):
        tried.append(call["ids"].shape)
        if call["ids"].shape[1] != 16 or call["ids"].max() > 9:
            raise RunFailed("too much")
        return [call["ids"]]

    samples = draw([Value("ids", "int64", ("batch", "length"))], {}, run, 2048)
    assert samples.calls[0]["ids"].shape == (2, 16)
    assert len(tried) < 100
    with pytest.raises(CannotAdopt, match=r"--samples FILE.npz.*too much"):
        draw([Value("ids", "int64", ("batch", "length"))], {}, run, 8)


def test_what_no_input_has_is_not_tried():
    tried = []

    def run(call):
        tried.append(call)
        return [np.ones(1)]

    draw([Value("s", "str", (4,)), Value("x", "float32", (4,))], {"x": (0, 1)}, run, 8)
    assert len(tried) == 8
    tried.clear()
    draw([Value("x", "float32", (4,))], {}, run, 8)
    assert len(tried) == 8 * 4


def test_samples_with_finite_answers_that_differ_are_preferred():
    def log(call):
        with np.errstate(all="ignore"):
            return [np.log(9.5 - call["x"])]

    assert draw([Value("x", "int64", (40,))], {}, log, 8).calls[0]["x"].max() == 9
    x = Value("x", "float32", (4,))
    tree = draw([x], {}, lambda call: [call["x"] > 100], 8)
    assert tree.calls[0]["x"].max() > 100
    constant = draw([x], {}, lambda call: [np.ones(1)], 8)
    assert constant.calls[0]["x"].max() <= 1


def test_inputs_too_large_to_serve_are_refused():
    with pytest.raises(CannotAdopt, match="has 10,000,000,000 values"):
        draw([Value("x", "float32", (100_000, 100_000))], {}, lambda call: [], 8)
    some = draw([Value("x", "uint8", (4000, 4000))], {}, lambda call: [call["x"][:1]], 8)
    assert len(some.calls) == 4


def test_few_rows_are_filled_up_with_shuffled_ones():
    samples = Samples.of_rows({"x": np.arange(8, dtype=np.int64).reshape(2, 4), "s": np.array(["a", "b"])}, "given")
    rows = samples.rows(7, 16)
    assert rows["x"].shape == (7, 4)
    assert (np.sort(rows["x"][2]) == [0, 1, 2, 3]).all()
    assert len({tuple(row) for row in rows["x"]}) == 7
    assert samples.rows(1, 1)["x"].tolist() == [[0, 1, 2, 3]]
