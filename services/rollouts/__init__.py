"""Versions of a model: which one is production, which is on trial, and how that changes."""
