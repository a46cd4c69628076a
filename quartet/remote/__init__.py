"""The commands for a running server; they need nothing beside the client."""
