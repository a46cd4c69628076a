"""Studies that the course shows: what one change of a network or of its data is worth."""
