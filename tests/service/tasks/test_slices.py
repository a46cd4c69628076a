"""Searches in large bodies."""

from service.tasks.slices import SLICE, count_bytes


def test_counting_stops_a_little_beyond_the_most():
    assert count_bytes(b"a,b,c", b",", 10) == 2
    assert 10 < count_bytes(b"," * 5_000_000, b",", 10) <= SLICE


def test_what_lies_across_slices_is_counted_once():
    data = bytearray(3 * SLICE)
    for position in (0, SLICE - 2, SLICE - 1, 2 * SLICE, 3 * SLICE - 2):
        data[position : position + 2] = b"\xff\xda"
    assert count_bytes(bytes(data), b"\xff\xda", 100) == 4
