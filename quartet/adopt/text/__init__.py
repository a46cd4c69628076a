"""Adopting classifiers of texts."""
