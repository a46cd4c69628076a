import numpy as np
import onnx

from training.export.cards import library_versions


def test_versions_of_the_libraries_are_those_installed():
    versions = library_versions()
    assert versions["numpy"] == np.__version__
    assert versions["onnx"] == onnx.__version__
    assert {"python", "torch", "timm"} < set(versions)
    assert any(name.startswith("onnxruntime") for name in versions)
