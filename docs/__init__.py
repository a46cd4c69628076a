"""The documentation. `python -m docs.generate` makes the parts of it that come from the code."""
