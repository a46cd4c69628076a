"""The typed manifest of each task."""
