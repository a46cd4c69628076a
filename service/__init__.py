"""The inference service: one async HTTP API over ONNX models, without torch."""
