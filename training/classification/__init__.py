"""Image classification: networks, distillation, studies, evaluation."""
