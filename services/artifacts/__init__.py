"""The model store: build artefacts, look them up, and check their gates."""
