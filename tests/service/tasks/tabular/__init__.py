"""Tests of service.tasks.tabular."""
