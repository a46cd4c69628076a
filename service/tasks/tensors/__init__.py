"""Plain tensors: any graph, as the Open Inference Protocol serves it."""
