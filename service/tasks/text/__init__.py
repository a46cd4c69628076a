"""Text classification: a text in; topics with calibrated probabilities out."""
