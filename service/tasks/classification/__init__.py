"""Image classification: an image in; labels with calibrated probabilities out."""
