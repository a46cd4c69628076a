"""Rows of numbers, offline: data, the dense network, gradient boosting, their evaluation."""
