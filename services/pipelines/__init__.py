"""Pipelines: several routes behind one name, each stage inside the request's deadline."""
