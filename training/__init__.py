"""Offline training: recipes that turn a data set into a model that the service serves."""
