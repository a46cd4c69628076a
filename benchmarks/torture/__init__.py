"""Attacks on the service, each beside a well-behaved client; see `benchmarks.torture.__main__`."""
