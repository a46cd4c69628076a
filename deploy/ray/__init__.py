"""Quartet as a Ray Serve application."""
