"""Measure the shop's fleet of models in one process."""
