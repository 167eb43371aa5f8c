"""BentoML services: the only place that imports bentoml."""
