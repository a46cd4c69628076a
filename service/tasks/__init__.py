"""What a model means: bytes or text in, answers out. Nothing here knows HTTP."""
