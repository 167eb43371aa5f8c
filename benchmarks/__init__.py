"""Benchmarks: each is `python -m benchmarks.NAME --json FILE`."""
