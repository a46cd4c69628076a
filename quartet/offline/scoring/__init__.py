"""Scoring without HTTP: millions of items through a model, from a folder or a file into a file."""
