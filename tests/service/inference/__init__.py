"""Tests of service.inference."""
