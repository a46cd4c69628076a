"""A model's serving policy, `serving.toml`: which versions are loaded, and which of them answers."""
