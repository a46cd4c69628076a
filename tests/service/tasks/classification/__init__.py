"""Tests of service.tasks.classification."""
