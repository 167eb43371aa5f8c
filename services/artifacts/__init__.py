"""The model store: what is built, where it is, and whether it may serve."""
