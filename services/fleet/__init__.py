"""The models of a catalog: their state, their speed, their size."""
