"""quartet adopt: any ONNX file becomes a version of a model that the service serves."""
