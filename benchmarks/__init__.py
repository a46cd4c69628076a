"""Speed of the service compared with ONNX Runtime alone and with a hand-written FastAPI app."""
