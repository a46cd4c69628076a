"""Tests of service.stack."""
