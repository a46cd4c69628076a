import struct
import tracemalloc

import numpy as np
import pytest

from service.api.v2.tensors import DATATYPES, BadTensor, check_shape, classify, from_bytes, from_json, to_bytes, to_json
from service.inference.cards import TensorSpec

SPEC = TensorSpec(name="x", dtype="float32", shape=(-1, 3))
OPEN = TensorSpec(name="ids", dtype="int64", shape=(-1, -1))


@pytest.mark.parametrize(
    ("shape", "said"),
    [
        ([2, 4], "has the shape [2, 4]; the model takes [-1, 3]"),
        ([3], "has the shape [3]"),
        ([], "has the shape []"),
        ([0, 3], "at least one item"),
        ([-1, 3], "at least one item"),
        ([9, 3], "at most 8 are accepted"),
        ([2**63, 3], "at most 8 are accepted"),
        ([2, -3], "has the shape [2, -3]"),
        ([2.0, 3], "whole numbers"),
        ([True, 3], "whole numbers"),
        (["2", 3], "whole numbers"),
        ([1] * 1000, "whole numbers"),
        ([None], "whole numbers"),
    ],
)
def test_shapes_that_do_not_fit(shape, said):
    with pytest.raises(BadTensor) as error:
        check_shape("x", shape, SPEC, 8, 1)
    assert said in str(error.value)
    assert len(str(error.value)) < 300


def test_open_axes_are_bounded():
    assert check_shape("ids", [2, 5], OPEN, 8, 5) == (2, 5)
    for length in (0, 6, 2**40):
        with pytest.raises(BadTensor, match="from 1 to 5"):
            check_shape("ids", [2, length], OPEN, 8, 5)


@pytest.mark.parametrize("data", [[1, 2, 3, 4, 5, 6], [[1, 2, 3], [4, 5, 6]]])
def test_json_is_flat_or_nested(data):
    np.testing.assert_array_equal(from_json("x", data, "float32", (2, 3)), [[1, 2, 3], [4, 5, 6]])


@pytest.mark.parametrize(
    ("data", "dtype", "said"),
    [
        ([1, 2, 3], "float32", "which are 6 values"),
        ([[1, 2], [3, 4], [5, 6]], "float32", "has the shape [3, 2]"),
        ([[1, 2, 3], [4, 5]], "float32", "different lengths"),
        ([1, 2, 3, 4, 5, None], "float32", "are no FP32"),
        ([1, 2, 3, 4, 5, "6"], "float32", "are no FP32"),
        ([1, 2, 3, 4, 5, {}], "float32", "are no FP32"),
        ([1, 2, 3, 4, 5, 1e39], "float32", "FP32 goes from"),
        ([1, 2, 3, 4, 5, 256], "uint8", "from 0 to 255"),
        ([1, 2, 3, 4, 5, -1], "uint8", "from 0 to 255"),
        ([1, 2, 3, 4, 5, 2**64], "int64", "INT64 goes from"),
        ([1, 2, 3, 4, 5, 10**400], "int64", "INT64 goes from"),
        ([1, 2, 3, 4, 5, 10**400], "float32", "FP32 goes from"),
        ([[1, 2, 3], 4, 5, 6, 7, 8], "float32", "different lengths"),
        ([1, [2], 3, 4, 5, 6], "float32", "are no FP32"),
        ([1, 2, 3, 4, 5, 0.5], "int64", "are no INT64"),
        ([True] * 6, "int64", "are no INT64"),
        ([1] * 6, "bool", "are no BOOL"),
        ("abcdef", "str", "must be a list"),
        ([1] * 6, "str", "no strings"),
    ],
)
def test_json_that_does_not_fit(data, dtype, said):
    with pytest.raises(BadTensor) as error:
        from_json("x", data, dtype, (2, 3))
    assert said in str(error.value)


def test_deep_lists_are_refused():
    deep = []
    for _ in range(100):
        deep = [deep]
    for dtype in ("float32", "str"):
        with pytest.raises(BadTensor):
            from_json("x", deep, dtype, (1, 1))


def test_numbers_that_are_none_pass_where_the_dtype_has_them():
    found = from_json("x", [float("nan"), float("inf"), 1], "float32", (1, 3))
    assert np.isnan(found[0, 0])
    assert np.isinf(found[0, 1])


@pytest.mark.parametrize("name", [name for name in DATATYPES if name != "BYTES"])
def test_binary_round_trip(name):
    array = np.array([[0, 1, 1], [1, 0, 1]]).astype(DATATYPES[name])
    sent = bytes(to_bytes(array))
    found = from_bytes("x", memoryview(b"?" + sent)[1:], np.dtype(DATATYPES[name]).name, (2, 3))
    np.testing.assert_array_equal(found, array)
    with pytest.raises(BadTensor, match="bytes"):
        from_bytes("x", memoryview(sent + b"0"), np.dtype(DATATYPES[name]).name, (2, 3))


def test_a_byte_of_bool_is_0_or_1():
    with pytest.raises(BadTensor, match="0 or 1"):
        from_bytes("x", memoryview(bytes([0, 1, 2])), "bool", (3,))


@pytest.mark.parametrize("texts", [["", "a", "한국어"], ["x" * 100_000, "", ""]])
def test_texts_have_all_lengths(texts):
    array = np.array(texts, np.object_)
    found = from_bytes("x", memoryview(to_bytes(array)), "str", (3,))
    assert list(found) == texts
    assert list(from_json("x", texts, "str", (3,))) == texts
    assert to_json(array) == texts


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\1\0\0",
        struct.pack("<I", 5) + b"abc",
        struct.pack("<I", 2**32 - 1) + b"abc",
        struct.pack("<I", 1) + b"a",  # one element is missing
        3 * (struct.pack("<I", 1) + b"a"),  # one too many
        2 * (struct.pack("<I", 1) + b"\xff"),
    ],
)
def test_texts_that_are_none(data):
    with pytest.raises(BadTensor):
        from_bytes("x", memoryview(data), "str", (2,))


def test_json_has_neither_nan_nor_infinity():
    assert to_json(np.array([[1.5, 2.0]], np.float32)) == [1.5, 2.0]
    for value in (np.nan, np.inf):
        with pytest.raises(BadTensor, match="ask for binary data"):
            to_json(np.array([value]))


def test_classes_are_ranked():
    found = classify(np.array([[0.1, 0.7, 0.2], [0.5, 0.25, 0.25]], np.float32), 2, ("a", "b", "c"))
    assert found.tolist() == [["0.700000:1:b", "0.200000:2:c"], ["0.500000:0:a", "0.250000:1:b"]]
    assert classify(np.array([[1, 2]]), 5, ()).tolist() == [["2.000000:1", "1.000000:0"]]


def test_a_long_string_beside_numbers_takes_no_memory():
    """NumPy would make all of them as long: 400 GB here."""
    tracemalloc.start()
    with pytest.raises(BadTensor, match="are no INT64"):
        from_json("x", ["a" * 1_000_000, *[1] * 99_999], "int64", (100_000,))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10_000_000
