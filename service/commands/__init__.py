"""What `python -m service` does: a module for each command, imported once its options have been read."""
