"""The inference service: one async HTTP API over ONNX models, without torch."""

__version__ = "0.1.0"
