"""The commands that run models without a server; they need the extra `server`."""
