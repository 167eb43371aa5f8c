"""Optimise a model and compare it with its reference. Never imported while serving."""
