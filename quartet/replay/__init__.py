"""quartet replay: captured items again, through other versions of a model or to a running server."""
