"""Inference engines behind one protocol, and what runs them."""
