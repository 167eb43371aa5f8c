"""Measure a model's speed on this machine by batch size."""
