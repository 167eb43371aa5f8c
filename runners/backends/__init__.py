"""Backends: local models behind a queue, models on demand, models elsewhere."""
