"""Versions come, go, are refused, tried and rolled back under traffic; see `benchmarks.lifecycle.__main__`."""
