"""Tests of service.tasks.autoencoder."""
