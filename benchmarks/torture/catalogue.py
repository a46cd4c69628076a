"""Every attack by its name: importing the modules that define them registers them."""

from benchmarks.torture import attacks, connections, crowds, oddities, publishing
from benchmarks.torture.strike import ATTACKS

__all__ = ["ATTACKS", "attacks", "connections", "crowds", "oddities", "publishing"]
