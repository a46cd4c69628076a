"""Several processes that serve one port of one host, and the one that keeps them going."""
