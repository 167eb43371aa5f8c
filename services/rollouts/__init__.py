"""Versions of a model: the aliases production and canary, their changes and trials."""
