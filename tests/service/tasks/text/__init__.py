"""Tests of service.tasks.text."""
