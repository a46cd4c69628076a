"""Agreement between versions of plain tensors."""

from pathlib import Path

import numpy as np
import pytest

from service.tasks.agreement import Incomparable, measure_between
from service.tasks.registry import read_manifest
from service.tasks.tensors.task import TENSORS
from tests.tiny_tensors import write_sums, write_words


def test_values_within_the_tolerance_agree(tmp_path: Path):
    manifest = read_manifest(write_sums(tmp_path))
    measure = measure_between(TENSORS, manifest, manifest)
    row = np.zeros(16, np.int32), np.ones(16, np.int32)
    assert measure.compare(row, row)[:2] == (True, 0.0)
    assert measure.compare(row, (row[0], row[1] + 2))[:2] == (False, 2.0)
    assert measure.compare(row, (row[0], row[1][:3])).agrees is False


def test_strings_agree_if_they_are_the_same(tmp_path: Path):
    manifest = read_manifest(write_words(tmp_path))
    measure = measure_between(TENSORS, manifest, manifest)
    assert measure.compare((np.array(["a"], object),), (np.array(["a"], object),)).agrees
    assert not measure.compare((np.array(["a"], object),), (np.array(["b"], object),)).agrees


def test_other_outputs_cannot_be_compared(tmp_path: Path):
    manifest = read_manifest(write_sums(tmp_path))
    other = manifest.model_copy(update={"outputs": manifest.outputs[:1]})
    with pytest.raises(Incomparable, match="outputs differ"):
        measure_between(TENSORS, manifest, other)


def test_an_example_shows_the_first_values(tmp_path: Path):
    manifest = read_manifest(write_sums(tmp_path))
    shown = TENSORS.agreement.result(manifest, None, (np.arange(200), np.arange(2)))["outputs"]
    assert (shown[0]["shape"], len(shown[0]["data"]), shown[1]["data"]) == ([200], 100, [0, 1])
