"""The trivial network that benchmarks serve in place of the committed one."""

from pathlib import Path

from benchmarks.options import newest
from benchmarks.tiny import make_tiny
from service.inference.session import Session
from service.tasks.registry import read_manifest
from tests.server import ROOT


def test_it_can_be_served(tmp_path: Path):
    folder = make_tiny(newest(ROOT / "models", "classifier"), tmp_path)
    Session(folder / "model.onnx", "cpu", 1).check(folder, read_manifest(folder))
