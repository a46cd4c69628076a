"""Tests of service.lifecycle."""
