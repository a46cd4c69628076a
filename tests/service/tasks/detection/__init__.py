"""Tests of service.tasks.detection."""
