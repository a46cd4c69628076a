"""The manifest of plain tensors."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from service.tasks.registry import read_manifest
from service.tasks.tensors.manifest import TensorsManifest
from tests.tiny_tensors import write_scaled, write_sums


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"max_batch": 2}, "max_batch must be 1"),
        ({"batched": True}, "must be open"),
        ({"ranges": {"noise": (0, 1)}}, "noise is no input"),
        ({"ranges": {"signal": (1, 0)}}, "is above the greatest"),
        ({"max_length": 0}, "max_length"),
    ],
)
def test_what_contradicts_itself_is_refused(tmp_path: Path, changes: dict[str, Any], message: str):
    document = read_manifest(write_scaled(tmp_path)).model_dump()
    with pytest.raises(ValidationError, match=message):
        TensorsManifest.model_validate(document | changes)


def test_ranges_are_those_that_clients_may_send(tmp_path: Path):
    assert read_manifest(write_scaled(tmp_path)).bounds == {"signal": (0.0, 1.0)}
    assert read_manifest(write_sums(tmp_path)).bounds == {}
