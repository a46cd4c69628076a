"""Rows of numbers, offline: data, the dense network, its evaluation."""
