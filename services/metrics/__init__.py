"""Prometheus metrics of a gateway, summed over its workers."""
