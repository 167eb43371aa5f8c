"""How fast a model is on this machine, at which batch size."""
