"""Adopting graphs of the columns of a table."""
