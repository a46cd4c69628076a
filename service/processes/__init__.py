"""Several worker processes on one address, and the supervisor that starts, watches and restarts them."""
