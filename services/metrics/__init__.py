"""Prometheus metrics: what is counted, and how workers add up."""
