"""Data sets: where they are, how they are read, split and inspected."""
