"""Tests of service.api.v1."""
