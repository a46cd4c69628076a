"""How fast the service is, against the bare runtime and against what one would write by hand."""
