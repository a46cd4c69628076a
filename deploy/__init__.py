"""Quartet on the engines of others."""
