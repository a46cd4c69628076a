"""Drift: how inputs and answers of the service differ from those of the validation split."""
