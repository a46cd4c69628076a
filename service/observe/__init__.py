"""Observers of requests, calls and batches: metrics and the request log."""
