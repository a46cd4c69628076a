"""The routes below /v1: one for each operation of each task, and the models."""
