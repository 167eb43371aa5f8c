"""Backends: local models behind a queue, models on demand, models on other servers."""
