"""The shop's fleet in one process, measured."""
