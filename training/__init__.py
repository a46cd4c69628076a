"""Offline training: recipes that turn a data set into a model that the service serves."""

import os

# The official builds of ONNX Runtime report to their maker from the moment they are loaded, unless this is set before.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
