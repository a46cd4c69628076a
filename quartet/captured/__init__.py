"""quartet captured: what a server has kept of its requests, listed, exported and deleted."""
