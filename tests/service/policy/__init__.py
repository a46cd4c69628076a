"""Tests of service.policy."""
