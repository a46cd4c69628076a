"""Captures: inputs and answers that are kept on disk, and what people say about the answers."""
