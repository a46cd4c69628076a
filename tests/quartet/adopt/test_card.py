from pathlib import Path

import pytest

from quartet.adopt.card import render
from service.tasks.registry import read_manifest
from tests.tiny_tensors import write_scaled, write_sums


def test_the_card_renders_the_facts_of_the_manifest(tmp_path: Path):
    manifest = read_manifest(write_scaled(tmp_path))
    card = render(manifest, ["## More\n\nof a task"])
    assert card.startswith("# scaled\n")
    assert "| input | `signal` | float32 | any x 2 |" in card
    assert "| input | `factor` | float32 | scalar |" in card
    assert "## More\n\nof a task" in card
    assert "quartet adopt model.onnx" in card


def test_a_version_that_was_trained_here_has_another_card(tmp_path: Path):
    manifest = read_manifest(write_sums(tmp_path))
    with pytest.raises(ValueError, match="not adopted"):
        render(manifest.model_copy(update={"adopted": None}))
